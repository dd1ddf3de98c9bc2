//! What the tests stand on: the program in this process or as one of its own, visitors, portals and crowds.

pub mod app;
pub mod crowd;
pub mod disk;
pub mod portal;
pub mod process;
pub mod random;
pub mod redis;
pub mod tls;
pub mod tomcat;
pub mod wire;
