// The network interfaces at which the other hosts of a job may reach this one.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

namespace fwl {

// Addresses of the interfaces that are up (IPv4 first), without loopback, link-local ones and bridges of
// containers.
std::vector<sockaddr_storage> outside_addresses();

// Whether an interface of this name is a bridge of containers or virtual machines, which has the same address
// on every host (as launch/mpirun.sh leaves them out).
bool is_container_bridge(const std::string& interface);

}  // namespace fwl
