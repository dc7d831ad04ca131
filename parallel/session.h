// The MPI session of this process: MPI_Init to MPI_Finalize, and what the launcher says of ranks.
//
// Serial code needs no special case: without a launcher the session is one rank of one and MPI is never
// touched. Under one, MPI is initialised on first use of `world()`, so that commands that never communicate
// pay nothing. A process that ends without finalize_session() does not hang; its launcher ends the other
// ranks. MPI's own set-up and end, which know no time-out, are bounded by session_timeout_s().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace fwl {

// Rank, size and the rank among those on the same host (which picks the GPU).
struct Placement {
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int local_size = 1;
};

// Collective over the world at its first call (MPI_Init_thread with MPI_THREAD_SERIALIZED at least,
// MPI_ERRORS_RETURN set). Throws CommError; throws ConfigError when the launcher started N processes that
// each see a world of one ("N copies of rank 0 of 1").
const Placement& world();
// By world rank, the lowest rank on the same host; {0} without a parallel session.
const std::vector<int>& first_ranks_of_hosts();

// A communicator of all ranks for host tensors (the local one when there is one rank). Collective over the
// world. `timeout_s` bounds every wait. Must not be used after finalize_session().
std::unique_ptr<Communicator> make_world_communicator(double timeout_s);
// The communicator of all ranks for tensors on this rank's GPU (`device_index`), over NCCL; the id is
// broadcast over MPI. Collective over the world. Throws ConfigError in a build without CUDA, CommError when
// the GPUs cannot reach each other within `timeout_s`.
std::unique_ptr<Communicator> make_world_nccl_communicator(int device_index, double timeout_s);

// A communicator of the ranks that give the same `color` >= 0, in the order of their world ranks; over MPI,
// or local when the group has one rank. `name` names it in messages. Collective over the world.
std::unique_ptr<Communicator> make_axis_communicator(int color, const std::string& name, double timeout_s);
// The same for tensors on this rank's GPU, over NCCL (also with one rank).
std::unique_ptr<Communicator> make_axis_nccl_communicator(int color, const std::string& name,
                                                          int device_index, double timeout_s);

// Ends the session. Collective over the world when it was started; does nothing otherwise. Throws CommError
// when a rank has ended without it; ends the process with exit code 4 when others do not come within
// session_timeout_s() (deadline.h).
void finalize_session();
// After an error on this rank: ends all ranks of a parallel session with `exit_code`, or with that of the
// rank that failed first. They are told, and end by themselves; MPI_Abort ends those that do not. Returns
// when there is nothing to end (one rank or no session).
void abort_if_parallel(int exit_code) noexcept;

}  // namespace fwl
