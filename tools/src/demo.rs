//! `understudy demo`: not built yet.
/// Arguments of `understudy demo`.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {}
/// Says so.
pub fn main(_args: &DemoArgs) -> std::process::ExitCode {
    eprintln!("error: the demo is not built yet");
    std::process::ExitCode::FAILURE
}
