//! Frames of a shell's stream, over whatever carries it.

use kairn_mesh_protocol::shell::Frame;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Reads a frame; nothing where the stream has ended before one.
///
/// # Errors
/// The stream broke off, or carries no frame.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut length = [0; 2];
    if stream.read(length.split_at_mut(1).0).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(length.split_at_mut(1).1).await?;
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut body).await?;
    Frame::decode(&body).map(Some).map_err(io::Error::other)
}

/// Writes a frame.
///
/// # Errors
/// The stream broke off, or the frame carries too much.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    stream.write_all(&frame.encode().map_err(io::Error::other)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_one_after_the_other_and_a_stream_that_breaks_off_within_one_is_an_error() {
        let (mut one, mut other) = tokio::io::duplex(64);
        for frame in [Frame::Knock, Frame::Output(b"text".to_vec())] {
            write(&mut one, &frame).await.unwrap();
        }
        one.write_all(&[0]).await.unwrap();
        drop(one);
        assert_eq!(read(&mut other).await.unwrap(), Some(Frame::Knock));
        assert_eq!(read(&mut other).await.unwrap(), Some(Frame::Output(b"text".to_vec())));
        assert_eq!(read(&mut other).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (one, mut other) = tokio::io::duplex(64);
        drop(one);
        assert_eq!(read(&mut other).await.unwrap(), None);
    }
}
