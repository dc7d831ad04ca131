#include "parallel/communicator.h"
#include "parallel/tensor_checks.h"

namespace fwl {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  explicit LocalCommunicator(at::Device device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* name() const override { return "local"; }
  at::Device device() const override { return device_; }

  void all_reduce_sum(Tensor tensor) override {
    check_movable("all_reduce_sum", tensor);
    check_summable("all_reduce_sum", tensor);
    ++traffic_.all_reduce.calls;
  }

  void broadcast(Tensor tensor, int root) override {
    check_movable("broadcast", tensor);
    check_root("broadcast", root, size());
    ++traffic_.broadcast.calls;
  }

  void all_gather(Tensor out, Tensor in) override {
    check_movable("all_gather", out);
    check_movable("all_gather", in);
    check_gather("all_gather", out, in, size());
    out.view({-1}).copy_(in.view({-1}));
    ++traffic_.all_gather.calls;
  }

  void barrier() override { ++traffic_.barrier.calls; }

 private:
  at::Device device_;
};

}  // namespace

std::unique_ptr<Communicator> make_local_communicator(at::Device device) {
  return std::make_unique<LocalCommunicator>(device);
}

}  // namespace fwl
