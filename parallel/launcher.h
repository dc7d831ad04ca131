// What the environment says of the launcher that started this process. Pure functions of the environment, so
// that tests can describe any launcher.
#pragma once

#include <map>
#include <string>

namespace fwl {

using Environment = std::map<std::string, std::string>;

Environment process_environment();

// Whether an MPI launcher (mpirun, mpiexec, srun, flux, ...) started this process as one of its ranks.
// Without one, MPI need not be initialised at all.
bool started_by_launcher(const Environment& environment);

// This process's rank, as its launcher says; 0 without one.
int rank_of_launcher(const Environment& environment);

// How many ranks the launcher started on this host; 1 without a launcher, or where it does not say.
int ranks_of_host(const Environment& environment);

// The error message when the launcher started several processes but MPI sees a world of `world_size` = 1, so
// that each would train alone as rank 0 and overwrite the others' files. Empty when all is well.
std::string copies_of_rank_zero(const Environment& environment, int world_size);

// The warning under a plain mpirun of Open MPI, which kills its ranks a second after the first SIGINT or
// SIGTERM, before a step and its checkpoint may be done; empty under launch/mpirun.sh (it sets FWL_LAUNCHER),
// under other launchers, and where odls_base_sigkill_timeout gives the ranks more time.
std::string kills_too_soon(const Environment& environment);

}  // namespace fwl
