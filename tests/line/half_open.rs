//! A firewall that forgets a connection: nothing arrives any more, nothing is refused either.

use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use outpost::link::{self, LinkOptions};
use smol::LocalExecutor;
use smol::channel::Sender;
use smol::future::FutureExt as _;
use smol::net::{TcpListener, TcpStream};

use super::support::{self, TestBroker, down, publish, stop, up};
use super::topic;

/// A relay for one connection that, when told, forwards nothing any more and keeps both sockets open.
struct Firewall {
    port: u16,
    forget: Sender<()>,
    sockets: smol::Task<(TcpStream, TcpStream)>,
}

impl Firewall {
    async fn before(broker: &TestBroker, executor: &LocalExecutor<'static>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), broker.addr);
        let (forget, told) = smol::channel::bounded::<()>(1);
        let sockets = executor.spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(target).await.unwrap();
            let up = smol::io::copy(near.clone(), far.clone());
            let down = smol::io::copy(far.clone(), near.clone());
            let until_told = async {
                let _ = told.recv().await;
                Ok(0)
            };
            let _ = up.or(down).or(until_told).await;
            (near, far)
        });
        Self { port, forget, sockets }
    }
}

/// rumqttc by itself would miss the answer to a ping after two keep-alives; that the link's own words are the reason
/// shows that it was sooner.
#[test]
fn a_silent_line_is_given_up_before_a_second_ping() {
    support::brokers().iter().for_each(|broker| freeze(broker, false));
}

/// What is written goes into the kernel's buffer and proves nothing.
#[test]
fn a_line_that_takes_everything_and_says_nothing_is_given_up_as_soon() {
    freeze(&support::broker(), true);
}

/// The same by the kernel's own firewall, in both directions, in a namespace that `.ci/run network` makes.
#[test]
fn packets_that_the_kernel_drops_are_noticed_as_soon() {
    if std::env::var_os("OUTPOST_TEST_WEATHER").is_none() {
        return support::skip("no network namespace of its own; `.ci/run network` makes one");
    }
    let broker = support::broker();
    smol::block_on(async {
        let options = LinkOptions { keep_alive: Duration::from_secs(5), ..broker.options("gateway") };
        let link = link::spawn(options).unwrap();
        up(&link).await;
        for port in ["--dport", "--sport"] {
            let drop = ["-A", "INPUT", "-p", "tcp", port, &broker.addr.port().to_string(), "-j", "DROP"];
            assert!(Command::new("iptables").args(drop).status().unwrap().success());
        }
        let reason = down(&link).await;
        assert!(reason.contains("half-open connection"), "{reason}");
        stop(link).await;
    });
}

fn freeze(broker: &TestBroker, busy: bool) {
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.clone().run(async {
        let firewall = Firewall::before(broker, &executor).await;
        let link = link::spawn(LinkOptions {
            port: firewall.port,
            keep_alive: Duration::from_secs(5),
            ..broker.options("gateway")
        })
        .unwrap();
        up(&link).await;
        firewall.forget.send(()).await.unwrap();
        let held_open = firewall.sockets.await;
        let commands = link.commands.clone();
        let topic = topic("up");
        let writing = async {
            for token in 0.. {
                if busy {
                    commands.send(publish(token, &topic, "x")).await.unwrap();
                }
                smol::Timer::after(Duration::from_millis(200)).await;
            }
            String::new()
        };
        let reason = down(&link).or(writing).await;
        assert!(reason.contains("half-open connection"), "{reason}");
        drop(held_open);
        stop(link).await;
    }));
}
