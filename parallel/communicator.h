// A group of ranks and the collectives over it. One interface, three back ends: local (one rank, no library),
// MPI (host tensors), NCCL (GPU tensors, on the current CUDA stream).
//
// Contract: all ranks call the same collectives in the same order with the same shapes and dtypes. Tensors
// are contiguous, live on device() (the local group takes any device) and are changed in place; anything else
// is refused with InternalError before a byte moves. Sums are the same on all ranks, bit for bit; over MPI
// also in every run with the same number of ranks. A host collective has finished when the call returns; a
// GPU collective is enqueued on the current stream, and later work on that stream sees its result. Every wait
// is bounded by the group's timeout and throws CommError with the operation's name, its number in the group,
// and the rank. After a CommError the group is of no more use: each later call throws, and the job should end
// (abort_if_parallel).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

// Calls, and bytes that this rank sent in them by the algorithms of parallel/README.md, since the group was
// made.
struct OperationTraffic {
  int64_t calls = 0;
  int64_t bytes_sent = 0;
};
struct TrafficCounters {
  OperationTraffic all_reduce, broadcast, all_gather, barrier;
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

  // Collective over the group. Sums `tensor` (float32, float64, bfloat16, int64) element by element over all
  // ranks.
  virtual void all_reduce_sum(Tensor tensor) = 0;
  // Collective over the group. Copies root's `tensor` to all ranks.
  virtual void broadcast(Tensor tensor, int root) = 0;
  // Collective over the group. `out` has size() times the elements of `in`: rank r's `in` becomes its r-th
  // part.
  virtual void all_gather(Tensor out, Tensor in) = 0;
  // Collective over the group. Returns when all ranks have called it; on a GPU also waits for the current
  // stream.
  virtual void barrier() = 0;

 protected:
  TrafficCounters traffic_;
};

// The sum over the group of each of `values`; the same on all ranks. Collective over the group, one message.
std::vector<double> all_reduce_sum(Communicator& group, const std::vector<double>& values);
double all_reduce_scalar_sum(Communicator& group, double value);
// Whether all ranks say yes. Collective over the group. Call it before a rank throws between collectives.
enum class Vote { kNo, kYes };
bool all_agree(Communicator& group, Vote vote);

// The group of one rank: every collective is the identity.
std::unique_ptr<Communicator> make_local_communicator(at::Device device = at::kCPU);

}  // namespace fwl
