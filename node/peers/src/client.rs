//! One client's connection, and one operation on it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// An operation on a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Put,
    Get,
    /// etcd's serializable get: whatever the contacted member has.
    GetLocal,
}

/// A connection.
pub(crate) enum Client {
    Http(Http),
    Etcd(etcd_client::KvClient),
}

/// A keep-alive HTTP/1.1 connection, written by hand so that the generator costs little.
pub(crate) struct Http {
    stream: TcpStream,
    host: String,
    path: String,
    received: Vec<u8>,
    request: Vec<u8>,
}

/// Connections to an etcd member; many clients share one, as etcd's own benchmark does.
pub(crate) async fn etcd(address: &str, timeout: Duration) -> Outcome<etcd_client::KvClient> {
    let options = etcd_client::ConnectOptions::new()
        .with_timeout(timeout)
        .with_connect_timeout(Duration::from_millis(500));
    let url = format!("http://{address}");
    Ok(etcd_client::Client::connect([url], Some(options)).await?.kv_client())
}

impl Http {
    pub(crate) async fn connect(address: &str, path: &str) -> Outcome<Http> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (received, request) = (Vec::with_capacity(16 << 10), Vec::new());
        Ok(Http { stream, host: address.to_owned(), path: path.to_owned(), received, request })
    }

    /// The status code of one request, its body read to the end.
    async fn ask(&mut self, method: &str, key: &str, body: &[u8]) -> Outcome<u16> {
        let path = self.path.replace("{k}", key);
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.received.clear();
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.received[..end])?;
        let code = head.get(9..12).ok_or("no status")?.parse()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let total = end + length.unwrap_or(0);
        while self.received.len() < total {
            self.more().await?;
        }
        Ok(code)
    }

    async fn more(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }
}

impl Client {
    /// One operation. A missing key is an answer; an error status is an error.
    pub(crate) async fn run(&mut self, action: Action, key: &str, value: &[u8]) -> Outcome<()> {
        match self {
            Client::Http(http) => {
                let code = match action {
                    Action::Put => http.ask("PUT", key, value).await?,
                    Action::Get | Action::GetLocal => http.ask("GET", key, b"").await?,
                };
                let good = code < 300 || (code == 404 && action != Action::Put);
                if good { Ok(()) } else { Err(format!("http status {code}").into()) }
            }
            Client::Etcd(etcd) => {
                match action {
                    Action::Put => drop(etcd.put(key, value, None).await?),
                    Action::Get => drop(etcd.get(key, None).await?),
                    Action::GetLocal => {
                        let options = etcd_client::GetOptions::new().with_serializable();
                        drop(etcd.get(key, Some(options)).await?);
                    }
                }
                Ok(())
            }
        }
    }
}
