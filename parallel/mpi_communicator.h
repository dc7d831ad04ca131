// Collectives on host tensors over MPI. Large sums and gathers run as rings of point-to-point messages in
// short segments, small ones as MPI's non-blocking collectives; both are polled, so that every wait can time
// out. (Blocking MPI calls cannot; MPI_Iallreduce of 100 MB takes 3 times as long as the ring on one host.)
#pragma once

#include <mpi.h>

#include <cstddef>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace fwl {

class MpiCommunicator final : public Communicator {
 public:
  // Owns `comm`, which no one else may use.
  MpiCommunicator(MPI_Comm comm, double timeout_s);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "mpi"; }
  at::Device device() const override { return at::kCPU; }
  void all_reduce_sum(Tensor tensor) override;
  void broadcast(Tensor tensor, int root) override;
  void all_gather(Tensor out, Tensor in) override;
  void barrier() override;

 private:
  // A part of a tensor, cut at the same elements on all ranks.
  struct Block {
    std::byte* data;
    int64_t bytes;
  };

  template <typename Body>
  void run(const char* operation, std::vector<Tensor> buffers, Body body);
  void reduce(const Tensor& tensor);
  void reduce_small(const Tensor& tensor);
  template <typename T>
  void reduce_ring(const Tensor& tensor);
  void gather_ring(const std::vector<Block>& blocks, int first_sent);
  template <typename Arrived>
  void pass_to_the_right(Block out, Block in, std::byte* staging, Arrived arrived);
  void wait_for(MPI_Request& request, int peer, int64_t expected_bytes);
  [[noreturn]] void fail_late(int peer, double elapsed_s) const;
  int neighbour(int offset) const { return (rank_ + offset + size_) % size_; }

  MPI_Comm comm_;
  double timeout_s_;
  int rank_ = 0;
  int size_ = 1;
  int64_t operations_ = 0;       // begun in this group; the same on all ranks
  const char* operation_ = "";   // under way
  std::vector<Tensor> buffers_;  // that MPI reads and writes in it
  OperationTraffic* counter_ = nullptr;
  bool usable_ = true;
};

}  // namespace fwl
