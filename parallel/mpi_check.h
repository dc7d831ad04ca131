// The check of every MPI call: throws CommError with the expression, the place and MPI's own text. It only
// sees errors because the session sets MPI_ERRORS_RETURN.
#pragma once

#include <mpi.h>

#include <string>

#include "core/base/error.h"

namespace fwl {

inline std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return cat("error ", code);
  return std::string(text, static_cast<size_t>(length));
}

[[noreturn]] inline void throw_mpi_error(int code, const char* expression, const char* file, int line) {
  throw CommError(cat("MPI failed: ", expression, " at ", file, ":", line, ": ", mpi_error_text(code),
                      " (the ranks can no longer talk). Restart the job from its last checkpoint."));
}

}  // namespace fwl

#define FWL_MPI(call)                                                                                 \
  do {                                                                                                \
    const int fwl_mpi_code = (call);                                                                  \
    if (fwl_mpi_code != MPI_SUCCESS) ::fwl::throw_mpi_error(fwl_mpi_code, #call, __FILE__, __LINE__); \
  } while (false)
