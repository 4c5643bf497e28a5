//! What a party keeps of one other: sessions, handshakes under way, and which lives it has heard.

use super::*;

/// Lives of another node whose beginnings are remembered: of an older one, a recorded Begin costs one handshake that
/// nobody uses.
const LIVES_MAX: usize = 8;

/// A handshake that was begun here.
pub(super) struct Attempt {
    pub number: u64,
    pub key: usize,
    pub to: Member,
    pub noise: Initiator,
}

/// One other party.
pub(super) struct Peer {
    pub node: NodeId,
    /// What is sealed is sealed in this one.
    pub current: Option<Session>,
    /// The one before, for what is still on its way.
    pub former: Option<Session>,
    /// Answered, but nothing was heard in them yet.
    waiting: VecDeque<Session>,
    attempts: VecDeque<Attempt>,
    /// Its life as it was told last; zero if that is not known.
    pub life: Incarnation,
    /// A hint says that `life` is another one than the session's, or that it does not know the session.
    is_hinted: bool,
    /// Beginnings since there was a session last.
    pub tries: u32,
    /// When to begin at the earliest.
    pub begin_at: Instant,
    /// The newest beginning of each of its lives.
    begun: VecDeque<(Incarnation, u64)>,
}

impl Peer {
    pub fn new(now: Instant, node: NodeId) -> Peer {
        Peer {
            node,
            current: None,
            former: None,
            waiting: VecDeque::new(),
            attempts: VecDeque::new(),
            life: Incarnation(0),
            is_hinted: false,
            tries: 0,
            begin_at: now,
            begun: VecDeque::new(),
        }
    }

    /// Whether a handshake is wanted.
    pub fn wants_session(&self, now: Instant) -> bool {
        let Some(current) = &self.current else { return true };
        self.is_hinted
            || current.is_used()
            || now.since(current.born) >= SESSION_RENEW
            || current.is_silent(now, SESSION_SILENT)
    }

    pub fn note_begun(&mut self, now: Instant, attempt: Attempt) {
        if self.attempts.len() == HANDSHAKES_PENDING_MAX {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
        let pause = HANDSHAKE_PAUSE.0 << self.tries.min(8);
        self.begin_at = now + Duration(pause.min(HANDSHAKE_PAUSE_MAX.0));
        self.tries += 1;
    }

    pub fn attempt(&mut self, number: u64) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.number == number)
    }

    pub fn note_finished(&mut self, now: Instant) {
        self.attempts.clear();
        self.begin_at = now + HANDSHAKE_PAUSE;
        (self.tries, self.is_hinted) = (0, false);
    }

    /// A session is made and used from now on.
    pub fn use_session(&mut self, session: Session) {
        self.life = session.peer.incarnation;
        let replaced = self.current.replace(session);
        // Of a former life nothing is taken any more.
        self.former = replaced.filter(|former| former.peer.incarnation == self.life);
    }

    /// Whether this beginning of that life has not been answered; notes it.
    pub fn is_new(&mut self, life: Incarnation, number: u64) -> bool {
        match self.begun.iter_mut().find(|(known, _)| *known == life) {
            Some((_, newest)) if *newest >= number => return false,
            Some((_, newest)) => *newest = number,
            None => {
                if self.begun.len() == LIVES_MAX {
                    self.begun.pop_front();
                }
                self.begun.push_back((life, number));
            }
        }
        true
    }

    pub fn note_answered(&mut self, session: Session) {
        if self.waiting.len() == HANDSHAKES_PENDING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(session);
    }

    /// The session of that name.
    pub fn session(&mut self, id: u32) -> Option<&mut Session> {
        let used = self.current.iter_mut().chain(&mut self.former);
        used.chain(&mut self.waiting).find(|session| session.id == id)
    }

    /// Something was heard in the session of that name; `true` if it was not used before.
    pub fn confirm(&mut self, id: u32) -> bool {
        let Some(at) = self.waiting.iter().position(|session| session.id == id) else {
            return false;
        };
        // Those before it will not be used any more.
        let session = self.waiting.drain(..=at).next_back();
        session.into_iter().for_each(|session| self.use_session(session));
        true
    }

    /// Somebody who may be the other says that this is its life, and that it does not know our session.
    pub fn note_hint(&mut self, now: Instant, life: Incarnation) {
        let is_doubtful = self.current.as_ref().is_some_and(|current| {
            current.peer.incarnation == life && now.since(current.born) < SESSION_SILENT
        });
        if !is_doubtful {
            (self.life, self.is_hinted) = (life, true);
        }
    }

    /// The other's answer to one of our beginnings: this is its life. `false` if there was none.
    pub fn note_fresh_life(&mut self, echo: u64, life: Incarnation) -> bool {
        let known = self.attempts.len();
        self.attempts.retain(|attempt| attempt.number != echo);
        let is_fresh = self.attempts.len() < known;
        if is_fresh {
            self.life = life;
            // A hint that was of a former life is answered by this.
            let is_current = self.current.as_ref().is_some_and(|s| s.peer.incarnation == life);
            self.is_hinted &= !is_current;
        }
        is_fresh
    }
}
