//! The main job on one machine: broker, certificates, both seats, a plant with faults.
