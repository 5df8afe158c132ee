//! An honest, strict Pancake on a loopback address.
