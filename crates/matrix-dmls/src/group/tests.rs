//! The verbs together: several devices, one room, no server.

mod absorb;
mod anchor;
mod attacks;
mod branches;
mod device;
mod entrance;
mod hostile;
mod joining;
mod key_request;
mod objection;
mod repair;
mod replaced;
mod retention;
mod secrets;
mod signatures;
mod standing;
