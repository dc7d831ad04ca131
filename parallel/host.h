// This host as the other hosts of a job know it: its name, and the addresses at which they may reach it.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

namespace fwl {

// "localhost" where the system has none.
std::string host_name();

// Addresses of the interfaces that are up (IPv4 first), without loopback, link-local ones and bridges of
// containers.
std::vector<sockaddr_storage> outside_addresses();

// Whether an interface of this name is a bridge of containers or virtual machines, which has the same address
// on every host (as launch/mpirun.sh leaves them out).
bool is_container_bridge(const std::string& interface);

}  // namespace fwl
