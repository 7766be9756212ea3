//! What is allowed: schemes, hosts, addresses, limits; from the driver's configuration.
