//! The way out is a proxy that the environment names.

use std::io::{BufRead as _, BufReader, Write as _, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Simulation, describe};

/// A proxy that passes on whatever it is asked to, and remembers each request's head.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let known = Arc::clone(&heads);
        // Ends with the process, as its threads do.
        thread::spawn(move || {
            for client in listener.incoming() {
                let heads = Arc::clone(&known);
                thread::spawn(move || pass_on(client.unwrap(), &heads));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn pass_on(mut client: TcpStream, heads: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let mut server = TcpStream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut to_server, mut to_client) = (server.try_clone().unwrap(), client);
    thread::spawn(move || {
        // How the connection ends is no matter of the proxy's.
        drop(copy(&mut reader, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    drop(copy(&mut server, &mut to_client));
    drop(to_client.shutdown(Shutdown::Write));
}

#[test]
fn everything_outside_goes_through_the_proxy_that_the_environment_names() {
    let simulation = Simulation::start(&["--records", "200"]);
    let proxy = Proxy::start();
    let output = simulation
        .run()
        .arg("--once")
        .env("HTTPS_PROXY", format!("http://user:word@{}", proxy.address))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    for head in &heads {
        assert!(head.starts_with("CONNECT localhost:"), "{head}");
        // "user:word".
        let auth = head.to_lowercase().contains("proxy-authorization: basic ")
            && head.contains("dXNlcjp3b3Jk");
        assert!(auth, "{head}");
    }
    simulation.assert_clean();
}

#[test]
fn what_needs_no_proxy_goes_straight_and_a_proxy_of_another_kind_is_refused_in_words() {
    let simulation = Simulation::start(&["--records", "200"]);
    let through = |proxy: &str, except: &str| {
        let mut command = simulation.run();
        command.arg("--once").env_remove("no_proxy");
        command.env("HTTPS_PROXY", proxy).env("NO_PROXY", except);
        command.output().unwrap()
    };
    let output = through("socks5://127.0.0.1:1", "");
    assert_ne!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("proxy"), "{said}");
    assert!(said.contains("socks5"), "{said}");
    let output = through("socks5://127.0.0.1:1", "localhost");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    simulation.assert_clean();
}
