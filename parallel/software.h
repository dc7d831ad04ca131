// The program and the libraries that it runs with.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fwl {

// Name and version: fwl, commit, compiler, libtorch, cuda, nccl, mpi, hdf5. "none": not in this build. Local,
// also before MPI is up.
std::vector<std::pair<std::string, std::string>> software();

std::string mpi_version();   // "Open MPI 4.1.4"
std::string nccl_version();  // "2.28.9"

}  // namespace fwl
