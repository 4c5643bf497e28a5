//! What a service manager is told of this process, where one started it and asks for that (`sd_notify(3)`).

use sd_notify::NotifyState;

/// It serves.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("running; `understudy status` says how")]);
}

/// It ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Without a manager nobody is told. One that cannot be told waits in vain and says so itself.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        eprintln!("warning: cannot tell the service manager: {error}");
    }
}
