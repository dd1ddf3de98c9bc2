//! Every input that the fuzzer found worth keeping, once more: what `fuzz/targets.rs` says of any bytes holds for them.

use std::fs;
use std::path::Path;

#[path = "fuzz/targets.rs"]
mod targets;

#[test]
fn every_kept_input_is_taken_without_a_fault() {
    for (name, target) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let inputs: Vec<_> = inputs.map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() > 5, "{name} has inputs");
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            println!("{}", input.display());
            target(&bytes);
        }
    }
}
