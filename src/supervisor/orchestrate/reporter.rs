use tokio::sync::mpsc;

use crate::supervisor::control::protocol::{ObjectKind, Progress, ReplyBody, Step};

/// Tells a client what happens. A client that does not read loses rows, never the last reply.
#[derive(Clone, Debug)]
pub struct Reporter {
    replies: mpsc::UnboundedSender<ReplyBody>,
}

impl Reporter {
    /// Makes a reporter and the place where its rows come out. The number of rows is bounded by the number of objects.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ReplyBody>) {
        let (replies, rows) = mpsc::unbounded_channel();
        (Self { replies }, rows)
    }

    pub(super) fn row(&self, kind: ObjectKind, name: &str, step: Step) {
        let _ = self.replies.send(ReplyBody::Progress(Progress { kind, name: name.to_owned(), step }));
    }

    pub(super) fn container(&self, name: &str, step: Step) {
        self.row(ObjectKind::Container, name, step);
    }

    /// Tells something that the user should know.
    pub fn warn(&self, message: String) {
        let _ = self.replies.send(ReplyBody::Warning { message });
    }
}
