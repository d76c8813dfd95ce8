//! The raw limit: hyper's server and hyper's pooled client, and nothing between them. Bodies pass
//! unread. What the node costs more than this is what it does; what this costs, no gateway on this
//! stack can save.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;
use std::thread;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

type Http = Client<HttpConnector, Incoming>;

/// Serves until its standard input ends, on as many threads as a node has.
pub(crate) fn run(upstream: String) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("start the runtime");
    thread::spawn(move || runtime.block_on(serve(upstream)));
    let _ = stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

async fn serve(upstream: String) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address");
    writeln!(stdout(), "{address}").expect("say where it listens");
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await.expect("accept");
        socket.set_nodelay(true).expect("set TCP_NODELAY");
        connections.spawn(forward(socket, http.clone(), upstream.clone()));
    }
}

async fn forward(socket: TcpStream, http: Http, upstream: String) {
    let service = service_fn(move |request| pass_on(http.clone(), upstream.clone(), request));
    // A connection that breaks is the driver's to report.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn pass_on(
    http: Http,
    upstream: String,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{upstream}{path}").parse::<Uri>().expect("an address and a path make a URI");
    http.request(request).await
}
