//! Answers that leave together. A DATA frame that h2 does not copy into its buffer is written before the next one is looked at, so that
//! each answer would take a system call of its own, which costs more than the check. What it copies is longest where the connection
//! cannot write from several buffers at once, so ours say that they cannot, and no frame is longer than that.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use hyper::body::Frame;
use hyper::body::SizeHint;
use hyper::rt::Read;
use hyper::rt::ReadBufCursor;
use hyper::rt::Write;
use tonic::Status;
use tonic::body::Body;

/// The longest frame that is copied, in bytes.
const PIECE_MAX: usize = 1023;

/// A connection that writes from one buffer at a time.
#[derive(Debug)]
pub struct OneBuffer<I>(pub I);

impl<I: Read + Unpin> Read for OneBuffer<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

/// All but the methods for several buffers.
impl<I: Write + Unpin> Write for OneBuffer<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A body in frames that are short enough.
#[derive(Debug)]
pub struct Pieces {
    body: Body,
    /// Of the last frame, what was not sent yet.
    rest: Bytes,
}

impl Pieces {
    pub fn of(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(PIECE_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use http_body_util::Full;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn a_long_body_comes_in_pieces_and_whole() {
        let table = [(0, 0, 1), (1, 1, 1), (PIECE_MAX, PIECE_MAX, 1), (PIECE_MAX + 1, 1, 2), (5 * PIECE_MAX, PIECE_MAX, 5)];
        for (length, last, count) in table {
            let whole: Bytes = (0..length).map(|position| position.to_le_bytes()[0]).collect();
            let trailers = http::HeaderMap::from_iter([(http::header::TE, http::HeaderValue::from_static("x"))]);
            let sent = trailers.clone();
            let mut pieces = Pieces::of(Body::new(Full::new(whole.clone()).with_trailers(async { Some(Ok(sent)) })));
            let mut came = Vec::new();
            let mut ended = None;
            while let Some(frame) = pieces.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => came.push(data),
                    Err(frame) => ended = frame.into_trailers().ok(),
                }
            }
            assert_eq!(came.concat(), whole, "{length}");
            assert!(came.iter().all(|piece| piece.len() <= PIECE_MAX));
            assert_eq!((came.last().map_or(0, Bytes::len), came.len().max(1), ended), (last, count, Some(trailers)), "{length}");
        }
        assert!(Pieces::of(Body::empty()).is_end_stream());
    }
}
