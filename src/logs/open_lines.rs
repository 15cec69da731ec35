use super::frame::{Line, Stamp, Stream, frame_line};

/// Says of which streams the last record is a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OpenLines {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl OpenLines {
    /// Notes a record of one stream.
    pub(super) fn set(&mut self, stream: Stream, open: bool) {
        match stream {
            Stream::Stdout => self.stdout = open,
            Stream::Stderr => self.stderr = open,
            Stream::Notice | Stream::Opened | Stream::Rotate => {}
        }
    }

    /// Notes the streams of records.
    pub(super) fn follow(&mut self, records: &[u8]) {
        for line in records.split(|b| *b == b'\n').filter_map(Line::parse) {
            self.set(line.stream, line.partial);
        }
    }

    /// Appends records that end the open lines.
    pub(super) fn close(self, stamp: &Stamp, out: &mut Vec<u8>) {
        for (open, stream) in [(self.stdout, Stream::Stdout), (self.stderr, Stream::Stderr)] {
            if open {
                frame_line(stream, b"", stamp, out);
            }
        }
    }
}
