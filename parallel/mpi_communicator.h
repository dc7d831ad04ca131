// Collectives on host tensors over MPI. Large sums run as rings of point-to-point messages in short segments,
// small ones as MPI's non-blocking collectives; gathers, all-to-alls and exchanges are messages between pairs
// that are posted at the start and waited for later. Small gathers of control go in log2 p steps instead: all
// ranks take part in them, and messages between all pairs would connect everybody with everybody (as
// MPI_Iallgather of Open MPI 4 does). All are polled, so that every wait can time out. (Blocking MPI calls
// cannot; MPI_Iallreduce of 100 MB takes 3 times as long as the ring on one host.)
#pragma once

#include <mpi.h>

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/watchdog.h"

namespace fwl {

class MpiCommunicator final : public Communicator {
 public:
  // Owns `comm`, which no one else may use. `group` names it in messages; `members` are its world ranks.
  MpiCommunicator(MPI_Comm comm, const std::string& group, const std::vector<int>& members, double timeout_s);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "mpi"; }
  at::Device device() const override { return at::kCPU; }
  double set_timeout_s(double timeout_s) override { return std::exchange(timeout_s_, timeout_s); }
  TransferTimes take_times() override;
  TransferPtr start_all_reduce_sum(Tensor tensor, const char* purpose) override;
  TransferPtr start_broadcast(Tensor tensor, int root, const char* purpose) override;
  TransferPtr start_all_gather(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_all_to_all(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_exchange(const std::vector<Message>& sends, const std::vector<Message>& receives,
                             const char* purpose) override;
  void barrier() override;
  void wait_for_own(const char* what, const std::function<bool()>& is_done) override;

 private:
  class PendingMessages;
  // A part of a tensor, cut at the same elements on all ranks.
  struct Block {
    std::byte* data;
    int64_t bytes;
  };

  void enter(const std::string& what, std::vector<Tensor> buffers);
  template <typename Body>
  void guarded(Body body);
  template <typename Body>
  TransferPtr run(const std::string& what, std::vector<Tensor> buffers, Body body);
  TransferPtr post(const std::string& what, const std::vector<Message>& sends,
                   const std::vector<Message>& receives, std::function<void()> finish);
  std::vector<Message> parts_of(const Tensor& tensor) const;
  void reduce(const Tensor& tensor);
  void reduce_small(const Tensor& tensor);
  template <typename T>
  void reduce_ring(const Tensor& tensor);
  void gather_in_doubling_steps(const Tensor& out, const Tensor& in);
  void gather_ring(const std::vector<Block>& blocks, int first_sent);
  template <typename Arrived>
  void pass_to_the_right(Block out, Block in, std::byte* staging, Arrived arrived);
  void wait_for(const Operation& operation, MPI_Request& request, int peer, int64_t expected_bytes);
  int neighbour(int offset) const { return (rank_ + offset + size_) % size_; }

  MPI_Comm comm_;
  Watchdog* watchdog_;
  double timeout_s_;
  int rank_ = 0;
  int size_ = 1;
  int group_ = -1;               // as the watchdog numbers it
  Operation operation_;          // entered last
  std::vector<Tensor> buffers_;  // that MPI reads and writes in it
  TransferTimes times_;
  bool usable_ = true;
};

}  // namespace fwl
