//! A producer in a process of its own, which goes to one point of a run and stands there until it is killed:
//! `doomed_producer ADDRESS USER POINT LEASE`.
//!
//! It says `connected` once it may be asked, and `here` once it stands at its point.

use std::net::SocketAddr;

use serde_json::json;
use trunkline_tests::producer::{Producer, completed, run_event, start, thinking};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, point, lease] = &arguments[..] else { panic!("ADDRESS USER POINT LEASE") };
    let address: SocketAddr = address.parse().expect("an address");
    let lease = lease.parse().expect("whole seconds");
    let mut producer = Producer::come(address, user, &[user]).await;
    println!("connected");
    go(&mut producer, user, point, lease).await;
    println!("here");
    // No ping is answered from here on; the kill comes long before that tells.
    std::future::pending::<()>().await;
}

async fn go(producer: &mut Producer, user: &str, point: &str, lease: u64) {
    if point == "idle" {
        return;
    }
    let request = producer.request("user_message").await;
    let run_id = request["run_id"].as_str().expect("a reserved run").to_owned();
    match point {
        "before_the_start" => return,
        "in_the_middle_of_the_start" => {
            let mut frame = start(user, &run_id, lease);
            frame["id"] = "half".into();
            return producer.send_half(&frame).await;
        }
        _ => {}
    }
    producer.start(user, &run_id, lease).await;
    if point == "after_the_start" {
        return;
    }
    producer.receipt(&run_id, 1, thinking("one")).await;
    match point {
        "between_two_events" => {}
        "in_the_middle_of_an_event" => producer.send_half(&run_event(&run_id, 2, thinking("two"))).await,
        "in_a_tool_call" => {
            let call =
                json!({"type": "tool_executing", "tool_call_id": "c", "tool_name": "calculator", "parameters": 1});
            producer.receipt(&run_id, 2, call).await;
        }
        "while_text_streams" => {
            let text = json!({"type": "agent_delta", "part_id": "answer", "text": "half an ans"});
            producer.receipt(&run_id, 2, text).await;
        }
        "while_suspended" => {
            let question = json!({"type": "agent_suspended", "approval_id": "a", "question": "May I?"});
            producer.receipt(&run_id, 2, question).await;
        }
        "in_the_middle_of_the_end" => producer.send_half(&run_event(&run_id, 2, completed())).await,
        "after_the_end" => producer.receipt(&run_id, 2, completed()).await,
        other => panic!("there is no point {other}"),
    }
}
