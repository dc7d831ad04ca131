// Messages to the terminal (stderr), through spdlog. Free of torch and {fmt} types on purpose: LibTorch ships
// another {fmt}, and the two must not meet in one file. Informational lines come from rank 0 only; warnings
// and errors come from every rank, with the rank's number when there is more than one.
#pragma once

#include <string>

namespace fwl {

// Called once after MPI is up. Until then the process logs as rank 0 of 1.
void set_log_rank(int rank, int size);
// trace, debug, info, warn, error, off, in any case; empty: as before. Throws ConfigError for another word.
// main() calls it with $FWL_LOG.
void set_log_level(const std::string& level);

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warn(const std::string& message);
void log_error(const std::string& message);

}  // namespace fwl
