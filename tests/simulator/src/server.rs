//! Serves a world over HTTP/1.1 on a thread of its own, until it is stopped.
//! What is answered is left to the world.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::gauge::Gauge;
use crate::request::Request;
use crate::wire;
use crate::world::World;

pub type Shared = Arc<Mutex<World>>;

#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub requests: Gauge,
    pub connections: Gauge,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Port 0 is one that no server of this process has had: a cluster remembers by the address what it
/// has seen of a page.
fn bind(port: u16) -> io::Result<TcpListener> {
    static HAD: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut held = Vec::new();
    loop {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let bound = listener.local_addr()?.port();
        if port != 0 || HAD.lock().unwrap_or_else(PoisonError::into_inner).insert(bound) {
            return Ok(listener);
        }
        held.push(listener);
    }
}

impl Server {
    pub fn start(world: Shared, port: u16, tls: Option<TlsAcceptor>) -> io::Result<Server> {
        let listener = bind(port)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (requests, connections) = (Gauge::default(), Gauge::default());
        let gauges = (requests.clone(), connections.clone());
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = accept(listener, world, tls, gauges) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("pancake-simulator".to_owned()).spawn(serve)?;
        Ok(Server { address, requests, connections, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until the server ends, which it does only when something fails.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    world: Shared,
    tls: Option<TlsAcceptor>,
    gauges: (Gauge, Gauge),
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let started = Instant::now();
    let mut connections = 0;
    loop {
        // A failed accept (no descriptors left, a peer already gone) concerns that connection
        // alone.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        connections += 1;
        let connection = connections;
        let (requests, open) = (gauges.0.clone(), gauges.1.count());
        let (world, tls) = (world.clone(), tls.clone());
        tokio::spawn(async move {
            let _open = open;
            match tls {
                None => serve(stream, world, requests, started, connection).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, world, requests, started, connection).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, world: Shared, requests: Gauge, started: Instant, connection: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let flight = requests.count();
        let (head, _) = request.into_parts();
        let request = Request::read(&head, started.elapsed(), connection);
        let answer = world.lock().unwrap_or_else(PoisonError::into_inner).answer(&request);
        async move {
            let _flight = flight;
            wire::send(answer, request.gzip).await
        }
    });
    // An error is the client's going away, or a fault that closes the connection.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
