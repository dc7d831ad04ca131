// The scan over chunk states on the CPU against its recurrence, written out.
#include "core/kernels/state_scan.h"

#include <gtest/gtest.h>

#include "core/kernels/matmul.h"

namespace fwl {
namespace {

struct Case {
  int64_t batch, chunks, carry_batch, carry_chunks;
};

TEST(StateScan, FollowsTheRecurrenceInBothOrders) {
  at::manual_seed(5);
  for (const auto& [type, tolerance] : std::vector<std::pair<at::ScalarType, double>>{
           {at::kDouble, 1e-13}, {at::kFloat, 1e-6}, {at::kBFloat16, 5e-3}}) {
    for (const Case& c : {Case{2, 4, 1, 1}, Case{2, 4, 2, 4}, Case{3, 1, 1, 1}, Case{2, 3, 2, 1}}) {
      for (const ScanOrder order : {ScanOrder::kForward, ScanOrder::kBackward}) {
        const at::ScalarType wide = accumulate_type(type);
        const Tensor added = at::randn({c.batch, c.chunks, 3, 5}, at::kDouble).to(wide),
                     carry = at::rand({c.carry_batch, c.carry_chunks, 1, 1}, at::kDouble).to(wide);
        const StateScan scan = scan_states(added, carry, type, order);
        ASSERT_EQ(scan.before_bgvk.scalar_type(), type);
        ASSERT_EQ(scan.end_bvk.scalar_type(), wide);
        for (int64_t b = 0; b < c.batch; ++b) {
          Tensor state_vk = at::zeros({3, 5}, at::kDouble);
          for (int64_t i = 0; i < c.chunks; ++i) {
            const int64_t g = order == ScanOrder::kForward ? i : c.chunks - 1 - i;
            const Tensor found_vk = scan.before_bgvk[b][g].to(at::kDouble);
            EXPECT_LE((found_vk - state_vk).abs().max().item<double>(),
                      tolerance * (1 + state_vk.abs().max().item<double>()))
                << type << ", chunk " << g;
            const double factor =
                carry[c.carry_batch == 1 ? 0 : b][c.carry_chunks == 1 ? 0 : g].item<double>();
            state_vk = factor * state_vk + added[b][g].to(at::kDouble);
          }
          EXPECT_LT((scan.end_bvk[b].to(at::kDouble) - state_vk).abs().max().item<double>(), 1e-5);
        }
      }
    }
  }
}

TEST(StateScan, RefusesATypeThatWouldLoseBits) {
  const Tensor added = at::zeros({1, 2, 2, 2}, at::kDouble), carry = at::ones({1, 1, 1, 1}, at::kDouble);
  EXPECT_ANY_THROW(scan_states(added, carry, at::kFloat, ScanOrder::kForward));
}

}  // namespace
}  // namespace fwl
