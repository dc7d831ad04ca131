// Collectives on GPU tensors over NCCL, enqueued on LibTorch's current stream of this group's GPU.
//
// The communicator is non-blocking: what NCCL does on the host (set-up, first connections) is polled and
// bounded by the timeout. What it does on the GPU is waited for in barrier(), or by whoever reads a result.
#pragma once

#include <nccl.h>

#include "parallel/communicator.h"

namespace fwl {

class NcclCommunicator final : public Communicator {
 public:
  // Collective over the ranks that share `id`. Makes `device` this thread's current GPU.
  NcclCommunicator(const ncclUniqueId& id, int rank, int size, int device, double timeout_s);
  // Collective when all is well; local, without a wait for peers, after a CommError or while an exception
  // unwinds.
  ~NcclCommunicator() override;
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "nccl"; }
  at::Device device() const override { return device_; }
  void all_reduce_sum(Tensor tensor) override;
  void broadcast(Tensor tensor, int root) override;
  void all_gather(Tensor out, Tensor in) override;
  void barrier() override;

 private:
  template <typename Body>
  void run(const char* operation, Body body);
  void enqueued(ncclResult_t result);
  void wait_for_host();
  void wait_for_stream();
  template <typename Done>
  void poll(Done done);
  void check_peers();
  cudaStream_t stream() const;

  int rank_, size_;
  at::Device device_;
  double timeout_s_;
  ncclComm_t comm_ = nullptr;
  int64_t operations_ = 0;      // begun in this group; the same on all ranks
  const char* operation_ = "";  // under way
  bool usable_ = true;
};

}  // namespace fwl
