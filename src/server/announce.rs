//! The PROXY protocol at the beginning of a connection: reads what a trusted proxy says before anything else.

use std::io::{Error, ErrorKind};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::domain::proxy_protocol::{ForWhom, Header, LONGEST, header};

/// Reads the header, and returns what was read beyond it.
///
/// # Errors
/// When there is none: whoever is listed has to say for whom it speaks.
pub(super) async fn read(stream: &mut TcpStream) -> Result<(Option<ForWhom>, Bytes), Error> {
    let mut bytes = BytesMut::with_capacity(LONGEST);
    loop {
        match header(&bytes) {
            Header::Whole { client, length } => return Ok((client, bytes.split_off(length).freeze())),
            Header::Begun if bytes.len() < LONGEST => {}
            Header::Begun | Header::None => {
                return Err(Error::new(ErrorKind::InvalidData, "a trusted proxy sent no PROXY header"));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}
