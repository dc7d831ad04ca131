#include "parallel/software.h"

#include <mpi.h>

#include <array>

#include "core/base/hdf5.h"
#include "core/base/version.h"

namespace fwl {

std::vector<std::pair<std::string, std::string>> software() {
  return {{"fwl", program_version()},       {"commit", source_commit()},     {"compiler", compiler_version()},
          {"libtorch", libtorch_version()}, {"cuda", cuda_version()},        {"nccl", nccl_version()},
          {"mpi", mpi_version()},           {"hdf5", hdf5_library_version()}};
}

// MPI answers before MPI_Init and after MPI_Finalize: "Open MPI v4.1.4, package: ...".
std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "unknown";
  std::string version(text.data(), static_cast<size_t>(length));
  version = version.substr(0, version.find_first_of(",\n"));
  const size_t v = version.find(" v");
  if (v != std::string::npos) version.erase(v + 1, 1);
  return version;
}

}  // namespace fwl
