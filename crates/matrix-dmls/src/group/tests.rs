//! The verbs together: several devices, one room, no server.

mod absorb;
mod anchor;
mod attacks;
mod branches;
mod device;
mod hostile;
mod joining;
mod retention;
mod secrets;
mod standing;
