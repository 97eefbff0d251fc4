//! Where the backends of small models stand, on the agent's pages.

use super::eventually;
use super::site::Site;

#[test]
fn the_pages_say_which_backend_of_a_model_serves_and_which_is_absent() {
    let site = Site::new();
    let more = "[[model]]\nname = \"freezer\"\nbundle = \"cold_room\"\nchannels = [\"cold1.temp\"]\nbackends = \"hailo, onnx\"\n\
                [accelerator.hailo]\nplugin = \"/nowhere/hailo.so\"\n";
    let agent = site.agent(site.broker.addr, more);
    let wanted = serde_json::json!([
        { "backend": "hailo", "model": "freezer", "state": "absent" },
        { "backend": "onnx", "model": "freezer", "state": "serving" },
    ]);
    let shown = || agent.json("/api/status").unwrap()["backends"].clone();
    eventually("the states of the backends", || (shown() == wanted).then_some(()));
    let serving = "outpost_backend_state{backend=\"onnx\",model=\"freezer\",state=\"serving\"}";
    assert_eq!(agent.metric(serving), 1);
}
