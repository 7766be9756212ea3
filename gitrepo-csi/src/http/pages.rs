//! The pages of the HTTP server.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::ALLOW;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use tokio::sync::Semaphore;

/// How long rendering a page may take: less than the default timeout of a probe or scrape.
const LIMIT: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type Metrics = dyn Fn() -> String + Send + Sync;
type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

/// The sources of the pages' content.
pub struct Pages {
    metrics: Arc<Metrics>,
    ready: Arc<Ready>,
    /// Permits to call `metrics` and `ready`, one each: if a disk hangs, threads must not pile up.
    metrics_turn: Arc<Semaphore>,
    ready_turn: Arc<Semaphore>,
}

impl Pages {
    /// `metrics` returns OpenMetrics text; `ready` says why the driver cannot work, without secrets. Both may block:
    /// they run on their own threads, one at a time each.
    pub fn new(
        metrics: impl Fn() -> String + Send + Sync + 'static,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self { metrics: Arc::new(metrics), ready: Arc::new(ready), metrics_turn: turn(), ready_turn: turn() }
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page = request.uri().path();
        if !["/metrics", "/healthz", "/readyz"].contains(&page) {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match page {
            "/metrics" => match made(&self.metrics_turn, &self.metrics).await {
                Some(metrics) => {
                    let mut response = text(StatusCode::OK, metrics);
                    response.headers_mut().insert(CONTENT_TYPE, METRICS);
                    response
                }
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the metrics take too long\n"),
            },
            "/readyz" => match made(&self.ready_turn, &self.ready).await {
                Some(Ok(())) => text(StatusCode::OK, "ok\n"),
                Some(Err(reason)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the check takes too long\n"),
            },
            // Answering at all proves health.
            _ => text(StatusCode::OK, "ok\n"),
        }
    }
}

/// Calls `make` when its permit is free; returns `None` if that takes too long. A late call keeps the permit until it
/// ends.
async fn made<T, F>(turn: &Arc<Semaphore>, make: &Arc<F>) -> Option<T>
where
    T: Send + 'static,
    F: Fn() -> T + Send + Sync + ?Sized + 'static,
{
    let (turn, make) = (Arc::clone(turn), Arc::clone(make));
    let making = async {
        let turn = turn.acquire_owned().await.ok()?;
        let work = move || {
            let made = make();
            drop(turn);
            made
        };
        tokio::task::spawn_blocking(work).await.ok()
    };
    tokio::time::timeout(LIMIT, making).await.ok().flatten()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
