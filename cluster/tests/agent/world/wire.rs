//! How datagrams travel: lost, doubled, delayed, cut; and words that nobody's agent says any more.

use super::*;

impl World {
    pub(super) fn index_of(&self, node: NodeId) -> usize {
        if node == WITNESS { self.witness_index() } else { usize::from(node.0) - 1 }
    }

    /// A node that is awake hears a datagram.
    pub(super) fn hear(&mut self, to: usize, bytes: Vec<u8>, reply_to: usize) {
        let node = &mut self.nodes[to];
        let now = node.clock.local(self.now);
        if node.agent.is_none() {
            return;
        }
        match sealing::open(&mut node.party, now, bytes) {
            Heard::Datagram(bytes) => {
                self.touch(to, |agent, now| agent.handle_message(now, &bytes))
            }
            Heard::Reply(reply) => self.transmit(to, reply_to, reply),
            // What its party has to say leaves as after any input.
            Heard::Nothing => self.touch(to, |_, _| {}),
        }
    }

    pub(super) fn transmit(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        if let Some(heard) = &mut self.heard {
            heard.push((to, bytes.clone(), from));
        }
        let copies = 1 + u64::from(self.noise.percent(self.loss / 2));
        for _ in 0..copies {
            if self.noise.percent(self.loss) {
                continue;
            }
            let slow = self.loss > 0 && self.noise.percent(5);
            let delay = if slow {
                self.noise.between(0, 300 * MS)
            } else {
                self.noise.between(20_000, 400_000)
            };
            let bytes = bytes.clone();
            self.push(self.now + delay, Event::Deliver { to, bytes, reply_to: from });
        }
    }

    pub(super) fn deliver(&mut self, to: usize, bytes: Vec<u8>, reply_to: usize) {
        if to < self.nodes.len() {
            if self.nodes[to].paused {
                self.nodes[to].held.push((bytes, reply_to));
            } else {
                self.hear(to, bytes, reply_to);
            }
            return;
        }
        let now = self.witness_clock.local(self.now);
        let Some(witness) = &mut self.witness else { return };
        let bytes = match sealing::open(&mut self.witness_party, now, bytes) {
            Heard::Datagram(bytes) => bytes,
            Heard::Reply(reply) => return self.transmit(to, reply_to, reply),
            Heard::Nothing => return,
        };
        let reply = match witness.handle_request(now, &bytes) {
            Ok(Effect::Reply(reply)) => reply,
            Ok(Effect::Persist(pending)) => {
                let disk = &mut self.disk;
                let write = |bytes: &[u8]| {
                    *disk = Some(bytes.to_vec());
                    Ok::<(), ()>(())
                };
                witness.release(pending, write).expect("the disk works")
            }
            Ok(Effect::Nothing) | Err(_) => return,
        };
        let node = NodeId(reply_to as u8 + 1);
        if let Some(bytes) = sealing::seal(&mut self.witness_party, now, node, reply) {
            self.transmit(to, reply_to, bytes);
        }
    }

    /// Something that a former life of a node said to another arrives now: to whichever life there is.
    pub fn late_word(&mut self, from: usize, life: u64, to: usize) {
        let sender = Member { node: NodeId(from as u8 + 1), incarnation: Incarnation(life) };
        let header = Header { cluster: CLUSTER, from: sender, to: any_life(NodeId(to as u8 + 1)) };
        let beat = Heartbeat {
            sequence: 1,
            sent: Instant(1),
            echo: Instant(1),
            core_ok: true,
            draining: false,
            cores: CORES,
            mac: [0; 6],
            path: Health::default(),
            entries: Vec::new(),
        };
        let bytes = encode(header, &Message::Heartbeat(beat));
        self.push(self.now, Event::Deliver { to, bytes, reply_to: from });
    }

    /// A guardian's four words to everybody, the first after `wake` nanoseconds.
    pub(super) fn surrender(&mut self, index: usize, wake: u64) {
        let node = &self.nodes[index];
        let from = Member { node: NodeId(index as u8 + 1), incarnation: Incarnation(node.life) };
        let at = node.clock.local(self.now + wake);
        for to in (0..=self.nodes.len()).filter(|to| *to != index) {
            let name = if to == self.witness_index() { WITNESS } else { NodeId(to as u8 + 1) };
            let header = Header { cluster: CLUSTER, from, to: any_life(name) };
            let datagram = encode(header, &Message::Surrender { at });
            let bytes = match self.is_sealed {
                true => {
                    let salt = [to as u8 ^ self.now as u8; 16];
                    surrender(&sealing::keyring(CLUSTER), from, salt, &datagram).remove(0)
                }
                false => datagram,
            };
            for pause in [0, 1, 5, 20] {
                let say = Event::Say { from: index, to, bytes: bytes.clone() };
                self.push(self.now + wake + pause * MS, say);
            }
        }
    }
}
