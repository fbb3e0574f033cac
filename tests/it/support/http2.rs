//! An HTTP/2 client without TLS, for method names and pseudo-headers that HTTP/1.1 servers refuse by themselves.

use bytes::Bytes;
use http::HeaderMap;
use http::Request;

use crate::support::http1::Reply;

/// Sends one request on a connection of its own. Trailers that end the reply are appended to its headers.
pub fn send(port: u16, request: Request<()>, body: &[u8], trailers: Option<HeaderMap>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(exchange(port, request, Bytes::copy_from_slice(body), trailers)).expect("an HTTP/2 exchange")
}

/// A request for `send`, with headers.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://api.example.com{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

async fn exchange(port: u16, request: Request<()>, body: Bytes, trailers: Option<HeaderMap>) -> Result<Reply, h2::Error> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let ends_at_once = body.is_empty() && trailers.is_none();
    let (response, mut upload) = client.send_request(request, ends_at_once)?;
    if !ends_at_once {
        upload.send_data(body, trailers.is_none())?;
        if let Some(trailers) = trailers {
            upload.send_trailers(trailers)?;
        }
    }
    let (parts, mut download) = response.await?.into_parts();
    let mut received = Vec::new();
    while let Some(chunk) = download.data().await {
        let chunk = chunk?;
        download.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
    }
    let mut headers = listed(&parts.headers);
    if let Some(trailers) = download.trailers().await? {
        headers.extend(listed(&trailers));
    }
    driver.abort();
    Ok(Reply { status: parts.status.as_u16(), headers, body: received })
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}
