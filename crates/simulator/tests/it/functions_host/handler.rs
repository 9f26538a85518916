//! A handler that does as it is told. It is this very test binary, started by the host with a filter that fits this test.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Request, Response, serve};

/// Among the arguments of a process that is to be a handler.
pub(super) const SERVE: &str = "serve-as-a-handler";

/// What host.json says to start.
pub(super) const ARGUMENTS: [&str; 5] = [
    "--exact",
    "functions_host::handler::a_handler_serves_until_it_is_ended",
    "--nocapture",
    "--test-threads=1",
    SERVE,
];

#[test]
fn a_handler_serves_until_it_is_ended() {
    if !std::env::args().any(|argument| argument == SERVE) {
        return;
    }
    let port: u16 = variable("FUNCTIONS_CUSTOMHANDLER_PORT").parse().unwrap();
    assert_eq!(variable("FUNCTIONS_HTTPWORKER_PORT"), port.to_string());
    if variable("MODE") == "crash at start" {
        exit(3);
    }
    println!("greeting {}", variable("GREETING"));
    eprintln!("mode {}", variable("MODE"));
    serve(
        TcpListener::bind(("127.0.0.1", port)).unwrap(),
        move |request| answer(&request),
    );
    loop {
        std::thread::park();
    }
}

fn answer(request: &Request) -> Response {
    match request.path() {
        "/" => Response {
            status: 404,
            ..Response::default()
        },
        "/Tick" | "/Work" => invoked(request),
        _ => Response {
            status: 202,
            headers: vec![("x-from", variable("FUNCTIONS_CUSTOMHANDLER_WORKER_ID"))],
            body: json!({
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "body": request.body,
            })
            .to_string()
            .into_bytes(),
        },
    }
}

/// Does what the message says, or, for a timer, what the app setting says.
fn invoked(request: &Request) -> Response {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let message = body["Data"]["message"]
        .as_str()
        .map(|text| serde_json::from_str::<String>(text).unwrap());
    let (status, body) = match message.unwrap_or_else(|| variable("MODE")).as_str() {
        "empty" => (200, String::new()),
        "null" => (200, "null".to_owned()),
        "text" => (200, "fine".to_owned()),
        "list" => (200, "[]".to_owned()),
        "refuse" => (500, "{}".to_owned()),
        "crash" => exit(3),
        "leave" => exit(0),
        "again" => exit(200),
        text => {
            if let Some(millis) = text.strip_prefix("take ") {
                // Not to hide a race: this is work that takes its time.
                std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
            }
            let answer = json!({
                "Outputs": {"seen": body, "headers": request.headers, "greeting": variable("GREETING")},
                "Logs": ["said by the function"],
                "ReturnValue": null,
            });
            (200, answer.to_string())
        }
    };
    Response {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.into_bytes(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a handler learns from its environment what it is to do"
)]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a handler that ends in the middle of a call is what is to be shown"
)]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
