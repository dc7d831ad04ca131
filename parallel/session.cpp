#include "parallel/session.h"

#include <mpi.h>

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "parallel/bounded_wait.h"
#include "parallel/deadline.h"
#include "parallel/failure.h"
#include "parallel/launcher.h"
#include "parallel/mpi_check.h"
#include "parallel/mpi_communicator.h"
#include "parallel/watchdog.h"

namespace fwl {
namespace {

// MPI is one per process, and so is what is known of it.
struct Session {
  std::mutex mutex;
  std::optional<Placement> placement;
  std::vector<int> first_ranks{0};     // of the ranks' hosts
  std::unique_ptr<Watchdog> watchdog;  // with more than one rank
  int group = -1;                      // of all ranks, as the watchdog numbers it
};

Session& session() {
  static Session only;
  return only;
}

bool mpi_is_up() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized && !finalized;
}

void initialize_mpi() {
  int initialized = 0, provided = 0;
  FWL_MPI(MPI_Initialized(&initialized));
  if (initialized) return;
  FWL_MPI(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
  FWL_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  require<CommError>(provided >= MPI_THREAD_SERIALIZED, "this MPI library only supports one thread (level ",
                     provided,
                     "; fwl calls it from several, one at a time). Use an MPI built with thread support.");
}

// The ranks that share memory with this one are those of its host. Returns the lowest of each rank's host.
std::vector<int> find_local_rank(Placement* placement) {
  MPI_Comm host = MPI_COMM_NULL;
  FWL_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, placement->rank, MPI_INFO_NULL, &host));
  FWL_MPI(MPI_Comm_rank(host, &placement->local_rank));
  FWL_MPI(MPI_Comm_size(host, &placement->local_size));
  int first = placement->rank;
  FWL_MPI(MPI_Bcast(&first, 1, MPI_INT, 0, host));
  FWL_MPI(MPI_Comm_free(&host));
  std::vector<int> first_ranks(static_cast<size_t>(placement->size));
  FWL_MPI(MPI_Allgather(&first, 1, MPI_INT, first_ranks.data(), 1, MPI_INT, MPI_COMM_WORLD));
  return first_ranks;
}

// Sets the session's placement and watchdog up.
void start(Session& s) {
  // Taken before MPI_Init, which may add variables of its own.
  const Environment environment = process_environment();
  Placement placement;
  if (started_by_launcher(environment)) {
    const Deadline deadline("MPI's set-up", session_timeout_s(), kSessionTimeoutSetting);
    initialize_mpi();
    FWL_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &placement.rank));
    FWL_MPI(MPI_Comm_size(MPI_COMM_WORLD, &placement.size));
    const std::string problem = copies_of_rank_zero(environment, placement.size);
    require<ConfigError>(problem.empty(), problem);
    if (placement.size > 1) {
      s.first_ranks = find_local_rank(&placement);
      s.watchdog = std::make_unique<Watchdog>(placement.rank, placement.size);
      std::vector<int> all(static_cast<size_t>(placement.size));
      std::iota(all.begin(), all.end(), 0);
      s.group = s.watchdog->add_group("session", all, session_timeout_s(), kSessionTimeoutSetting);
    }
  }
  s.placement = placement;
}

// Returns when all ranks have come to the session's end, with an error when one cannot.
void wait_for_all(Session& s) {
  const Operation operation = s.watchdog->begin(s.group, "the session's end");
  BoundedWait waiting(session_timeout_s(), {0.02, 50}, s.watchdog.get(), "for the other ranks.");
  MPI_Request request;
  FWL_MPI(MPI_Ibarrier(MPI_COMM_WORLD, &request));
  for (int done = 0; !done;) {
    FWL_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    if (!done) waiting.rest(operation);
  }
}

}  // namespace

const Placement& world() {
  Session& s = session();
  const std::lock_guard lock(s.mutex);
  if (!s.placement) start(s);
  return *s.placement;
}

const std::vector<int>& first_ranks_of_hosts() {
  world();
  return session().first_ranks;
}

Watchdog* watchdog() {
  return session().watchdog.get();
}

std::unique_ptr<Communicator> make_world_communicator(double timeout_s) {
  if (world().size == 1) return make_local_communicator();
  return make_axis_communicator(0, "world", timeout_s);
}

std::unique_ptr<Communicator> make_axis_communicator(int color, const std::string& name, double timeout_s) {
  if (world().size == 1) return make_local_communicator();
  require<InternalError>(mpi_is_up(), "a communicator was asked for after the session's end.");
  const Deadline deadline(cat("the set-up of group ", name), timeout_s, timeout_setting());
  MPI_Comm own = MPI_COMM_NULL;
  FWL_MPI(MPI_Comm_split(MPI_COMM_WORLD, color, world().rank, &own));
  int size = 1;
  FWL_MPI(MPI_Comm_size(own, &size));
  std::vector<int> members(static_cast<size_t>(size));
  FWL_MPI(MPI_Allgather(&world().rank, 1, MPI_INT, members.data(), 1, MPI_INT, own));
  // Groups are numbered by the watchdog in the order of their making: every rank registers one here.
  auto group = std::make_unique<MpiCommunicator>(own, cat(name, " (mpi)"), members, timeout_s);
  if (size > 1) return group;
  return make_local_communicator();
}

void finalize_session() {
  Session& s = session();
  if (mpi_is_up()) {
    if (s.watchdog) wait_for_all(s);
    const Deadline deadline("MPI's end", session_timeout_s(), kSessionTimeoutSetting);
    FWL_MPI(MPI_Finalize());
  }
  s.watchdog.reset();
}

void abort_if_parallel(int exit_code) noexcept {
  if (!mpi_is_up()) return;
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size == 1) return;
  if (watchdog() != nullptr) {
    watchdog()->announce_end(exit_code);
    if (watchdog()->heard_end() >= 0) exit_when_finished(watchdog()->heard_end());
    // A rank that ends by itself keeps the exit code; one that MPI_Abort ends has the launcher's.
    watchdog()->wait_for_ends(kFailureGrace_s);
  }
  // MPI_Abort waits for the launcher, which may itself be stuck.
  std::thread([exit_code] {
    std::this_thread::sleep_for(std::chrono::seconds(6));
    std::_Exit(exit_code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, exit_code);
}

}  // namespace fwl
