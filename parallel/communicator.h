// A group of ranks and the collectives over it. One interface, three back ends: local (one rank, no library),
// MPI (host tensors), NCCL (GPU tensors, on a stream of the group's own).
//
// Contract: all ranks call the same collectives in the same order with the same shapes and dtypes. Tensors
// are contiguous, live on device() (the local group takes any device) and are changed in place; anything else
// is refused with InternalError before a byte moves. Sums are the same on all ranks, bit for bit; over MPI
// also in every run with the same number of ranks.
//
// Every verb exists twice: `start_x` returns a Transfer and lets the caller compute meanwhile; `x` is the
// same followed by wait(). Every operation has a name (verb and purpose) and a number in its group. Every
// wait is bounded by the group's timeout and throws CommError with that name, the number, this rank, and the
// ranks that have not arrived (watchdog.h). A CommError is reported where it is born (failure.h): the other
// ranks know, and this process ends soon, whatever unwinding waits for. The group is of no more use: each
// later call throws.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

// What an operation is for. Part of its name, and what traffic is counted by.
namespace purpose {
inline constexpr const char* kControl = "control";  // scalars, agreement
inline constexpr const char* kGradients = "gradients";
inline constexpr const char* kWeights = "weights";
inline constexpr const char* kAttention = "attention";
inline constexpr const char* kState = "state";  // fast weights
inline constexpr const char* kCheckpoint = "checkpoint";
}  // namespace purpose

// Calls, and bytes that this rank sent in them by the algorithms of parallel/README.md, since the group was
// made. `messages`: to single ranks, of those that the group sends itself (not a library's collectives).
struct OperationTraffic {
  int64_t calls = 0;
  int64_t bytes_sent = 0;
  int64_t messages = 0;
};
struct TrafficCounters {
  OperationTraffic all_reduce, broadcast, all_gather, barrier, all_to_all, reduce_scatter, exchange;
  std::map<std::string, OperationTraffic> by_purpose;
};

// Where the time of a group's transfers went, in seconds, since it was last asked for. Over MPI, whose
// progress cannot be seen, `total_s` is the time from start to the end of wait().
struct TransferTimes {
  double total_s = 0;    // of all transfers, from the moment their data was ready
  double exposed_s = 0;  // that computation waited for them
};

// An operation under way. Its tensors may not be touched until wait() has returned (over MPI: it is done;
// over NCCL: later work on the current stream comes after it).
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Once. Throws CommError.
  virtual void wait() = 0;
};
using TransferPtr = std::unique_ptr<Transfer>;

// One tensor for, or from, another rank of the group (or this one).
struct Message {
  int peer;
  Tensor tensor;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0;  // "local", "mpi", "nccl"
  // Where this group's tensors live.
  virtual at::Device device() const = 0;
  const TrafficCounters& traffic() const { return traffic_; }
  // How long waits may take from here on; returns what held before. The same on all ranks (TimeoutScope). A
  // group without waits of its own on the host ignores it.
  virtual double set_timeout_s(double timeout_s) { return timeout_s; }
  // Over NCCL it waits for the group's transfers, and times are kept from the first call on.
  virtual TransferTimes take_times() { return {}; }

  // All are collective over the group.
  // Sums `tensor` (float32, float64, bfloat16, int64) element by element over all ranks. Over MPI the sum is
  // done when the call returns.
  virtual TransferPtr start_all_reduce_sum(Tensor tensor, const char* purpose) = 0;
  // Copies root's `tensor` to all ranks.
  virtual TransferPtr start_broadcast(Tensor tensor, int root, const char* purpose) = 0;
  // `out` has size() times the elements of `in`: rank r's `in` becomes its r-th part.
  virtual TransferPtr start_all_gather(Tensor out, Tensor in, const char* purpose) = 0;
  // `in` and `out` have size() equal parts: part r of `in` goes to rank r, part r of `out` comes from rank r.
  virtual TransferPtr start_all_to_all(Tensor out, Tensor in, const char* purpose) = 0;
  // `in` has size() times the elements of `out`, which becomes the sum over all ranks of part rank().
  virtual TransferPtr start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) = 0;
  // Messages between pairs; the k-th message that a rank sends to a peer is the k-th that the peer receives
  // from it. Empty lists are fine: all ranks call it.
  virtual TransferPtr start_exchange(const std::vector<Message>& sends, const std::vector<Message>& receives,
                                     const char* purpose) = 0;
  // Returns when all ranks have called it; on a GPU also waits for the current stream.
  virtual void barrier() = 0;
  // Not collective. Waits until `is_done`, for something of this rank's own that takes as long as it takes (a
  // thread that writes to a disk, named by `what`). Throws CommError when meanwhile another member's process
  // is gone, or has been stopped for the group's timeout: nobody will need what is waited for.
  virtual void wait_for_own(const char* what, const std::function<bool()>& is_done);

  void all_reduce_sum(Tensor tensor, const char* purpose = purpose::kControl) {
    start_all_reduce_sum(tensor, purpose)->wait();
  }
  void broadcast(Tensor tensor, int root, const char* purpose = purpose::kControl) {
    start_broadcast(tensor, root, purpose)->wait();
  }
  void all_gather(Tensor out, Tensor in, const char* purpose = purpose::kControl) {
    start_all_gather(out, in, purpose)->wait();
  }
  void all_to_all(Tensor out, Tensor in, const char* purpose = purpose::kControl) {
    start_all_to_all(out, in, purpose)->wait();
  }
  void reduce_scatter_sum(Tensor out, Tensor in, const char* purpose = purpose::kControl) {
    start_reduce_scatter_sum(out, in, purpose)->wait();
  }
  void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives,
                const char* purpose = purpose::kControl) {
    start_exchange(sends, receives, purpose)->wait();
  }

 protected:
  // Counts one call, and the bytes and messages that it sends.
  void count(OperationTraffic TrafficCounters::*verb, const char* purpose, int64_t bytes,
             int64_t messages = 0);

  TrafficCounters traffic_;
};

// While it lives, waits of `group` may take `timeout_s`: for what takes its time on one rank only, as a disk
// does.
class TimeoutScope {
 public:
  TimeoutScope(Communicator& group, double timeout_s)
      : group_(group), before_s_(group.set_timeout_s(timeout_s)) {}
  ~TimeoutScope() { group_.set_timeout_s(before_s_); }
  TimeoutScope(const TimeoutScope&) = delete;
  TimeoutScope& operator=(const TimeoutScope&) = delete;

 private:
  Communicator& group_;
  double before_s_;
};

// The sum over the group of each of `values`; the same on all ranks. Collective over the group, one message.
std::vector<double> all_reduce_sum(Communicator& group, const std::vector<double>& values);
double all_reduce_scalar_sum(Communicator& group, double value);
// Whether all ranks say yes. Collective over the group. Call it before a rank throws between collectives.
enum class Vote { kNo, kYes };
bool all_agree(Communicator& group, Vote vote);
// Throws ConfigError on every rank, naming those whose `text` differs from rank 0's, unless all are the same.
// `what` names the text: "the run's config". Collective over the group.
void require_same_text(Communicator& group, const std::string& what, const std::string& text);

// The group of one rank: every collective is the identity.
std::unique_ptr<Communicator> make_local_communicator(at::Device device = at::kCPU);

}  // namespace fwl
