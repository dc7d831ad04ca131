// The CUDA kernels without a GPU: their very sources, run on the CPU thread by thread (tests/support/
// cuda_emulation), against the CPU's own form of each function in float64. tests/gpu/kernels_cuda_test.cpp
// asks the same of a GPU.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/activation.h"
#include "core/kernels/activation_cuda.h"
#include "core/kernels/adamw_update.h"
#include "core/kernels/adamw_update_cuda.h"
#include "core/kernels/decay_mask.h"
#include "core/kernels/decay_mask_cuda.h"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/likely_gradient.h"
#include "core/kernels/likely_gradient_cuda.h"
#include "core/kernels/likely_hessian.h"
#include "core/kernels/likely_hessian_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/norm.h"
#include "core/kernels/norm_cuda.h"
#include "core/kernels/rotary.h"
#include "core/kernels/rotary_cuda.h"
#include "core/kernels/softmax_rows.h"
#include "core/kernels/softmax_rows_cuda.h"
#include "core/kernels/state_scan.h"
#include "core/kernels/state_scan_cuda.h"
#include "core/kernels/step_rows_cuda.h"
#include "core/kernels/token_sums.h"
#include "core/kernels/token_sums_cuda.h"
#include "emulation.h"
#include "tests/support/likely_lists.h"

namespace fwl {
namespace {

// Norm of the difference relative to the norm of the reference.
double distance(const Tensor& a, const Tensor& reference) {
  const Tensor x = a.detach().to(at::kDouble), y = reference.detach().to(at::kDouble);
  return (x - y).norm().item<double>() / (y.norm().item<double>() + 1e-30);
}

const std::vector<std::pair<at::ScalarType, double>> kTypes = {
    {at::kDouble, 1e-12}, {at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}};

// For a type: `stored` numbers of it, and the same numbers in float64.
struct Pair {
  Tensor stored, wide;
};
Pair random(at::IntArrayRef shape, at::ScalarType type, double spread = 1) {
  const Tensor stored = (at::randn(shape, at::kDouble) * spread).to(type);
  return {stored, stored.to(at::kDouble)};
}
// Numbers that kernels take in the accumulation type.
Pair random_wide(at::IntArrayRef shape, at::ScalarType type) {
  const Tensor stored = at::randn(shape, at::kFloat).to(accumulate_type(type));
  return {stored, stored.to(at::kDouble)};
}
Tensor labels(int64_t rows, int64_t vocabulary) {
  return at::randint(vocabulary, {rows}, at::kLong);
}

// Rows that fit a block's shared memory and such that do not; whole vectors and single elements.
const std::vector<int64_t> kVocabularies = {40, 1001, 16384, 50304, 120000};

TEST(EmulatedCuda, SoftmaxRowsEqualTheCpu) {
  at::manual_seed(1);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t v : kVocabularies) {
      SCOPED_TRACE(cat(type, ", V ", v));
      const Pair logits = random({3, v}, type, 2), bar = random({3, v}, type),
                 weight = random_wide({3}, type), nll_bar = random_wide({3}, type);
      const Tensor label_n = labels(3, v);
      Tensor found = logits.stored.clone(), expected = logits.wide.clone();
      const Tensor nll_n = emulated::cross_entropy_gradient_(found, label_n, weight.stored);
      EXPECT_LT(distance(nll_n, cross_entropy_gradient_(expected, label_n, weight.wide)), 1e-5);
      EXPECT_LT(distance(found, expected), tolerance);
      EXPECT_LT(distance(emulated::cross_entropy(logits.stored, label_n), nll_n), 1e-6);

      Tensor again = logits.stored.clone(), found_bar = bar.stored.clone();
      Tensor expected_again = logits.wide.clone(), expected_bar = bar.wide.clone();
      emulated::cross_entropy_gradient_backward_(again, found_bar, label_n, weight.stored, nll_n,
                                                 nll_bar.stored);
      cross_entropy_gradient_backward_(expected_again, expected_bar, label_n, weight.wide,
                                       nll_n.to(at::kDouble), nll_bar.wide);
      EXPECT_LT(distance(again, expected_again), tolerance);
      EXPECT_LT(distance(found_bar, expected_bar), tolerance);

      Tensor residual = logits.wide.clone();
      cross_entropy_gradient_(residual, label_n, at::ones({3}, at::kDouble));
      residual = residual.to(type);
      found_bar = bar.stored.clone();
      expected_bar = bar.wide.clone();
      emulated::cross_entropy_residual_backward_(residual, found_bar, label_n, weight.stored, nll_bar.stored);
      cross_entropy_residual_backward_(residual.to(at::kDouble), expected_bar, label_n, weight.wide,
                                       nll_bar.wide);
      EXPECT_LT(distance(found_bar, expected_bar), tolerance);
    }
  }
}

TEST(EmulatedCuda, LikelyGradientEqualsTheCpu) {
  at::manual_seed(2);
  struct Shape {
    int64_t vocabulary, width;
    double spread, threshold;
  };
  for (const Shape& s : {Shape{1000, 64, 2, 1e-3}, Shape{1001, 63, 2, 1e-3}, Shape{16384, 512, 1, 1e-5},
                         Shape{50304, 768, 3, 1e-3}, Shape{500, 8192, 1, 1e-4}, Shape{120000, 64, 1, 1e-6}}) {
    for (const auto& [type, tolerance] : kTypes) {
      SCOPED_TRACE(cat(type, ", V ", s.vocabulary));
      const Pair logits = random({2, s.vocabulary}, type, s.spread),
                 weight = random({s.vocabulary, s.width}, type), rest = random_wide({s.width}, type),
                 factor = random_wide({2}, type);
      const Tensor label_n = labels(2, s.vocabulary);
      const auto found = emulated::likely_gradient(logits.stored, label_n, weight.stored, rest.stored,
                                                   s.threshold, factor.stored);
      const auto expected =
          likely_gradient(logits.wide, label_n, weight.wide, rest.wide, s.threshold, factor.wide);
      EXPECT_LT(distance(found.gradient_nd, expected.gradient_nd), tolerance);
      EXPECT_LT(distance(found.nll_n, expected.nll_n), 1e-5);
      EXPECT_LT((found.rest_n.to(at::kDouble) - expected.rest_n).abs().max().item<double>(), 1e-4);
      // A probability that is the threshold to rounding may fall on either side.
      EXPECT_LE((found.kept_n - expected.kept_n).abs().max().item<int>(), type == at::kDouble ? 0 : 2);
    }
  }
}

// The errors and the lists of likely tokens; returns those of the CPU.
LikelyTokens expect_equal_errors(int64_t rows, int64_t vocabulary, at::ScalarType type, double spread,
                                 double threshold, const Tensor& label_n, double tolerance) {
  const Pair logits = random({rows, vocabulary}, type, spread);
  Tensor errors = logits.stored.clone(), expected_errors = logits.wide.clone();
  const LikelyTokens found = room_for_likely_tokens(rows, vocabulary, threshold, errors),
                     expected = room_for_likely_tokens(rows, vocabulary, threshold, expected_errors);
  const Tensor nll = emulated::cross_entropy_errors_(errors, label_n, threshold, found);
  EXPECT_LT(distance(nll, cross_entropy_errors_(expected_errors, label_n, threshold, expected)), 1e-5);
  EXPECT_LT(distance(errors, expected_errors), tolerance);
  expect_same_lists(found, expected, vocabulary, threshold);
  return expected;
}

TEST(EmulatedCuda, ErrorsAndLikelyTokensEqualTheCpu) {
  at::manual_seed(5);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t v : kVocabularies) {
      SCOPED_TRACE(cat(type, ", V ", v));
      expect_equal_errors(3, v, type, 2, 1e-3, labels(3, v), tolerance);
    }
  }
}

TEST(EmulatedCuda, LikelyHessianAndItsProductsEqualTheCpu) {
  at::manual_seed(3);
  struct Shape {
    int64_t rows, vocabulary, width;
    double spread, threshold;
  };
  for (const Shape& s :
       {Shape{40, 40, 24, 1, 1e-2}, Shape{5, 201, 63, 2, 1e-3}, Shape{9, 600, 2100, 2, 1e-2},
        // Single elements, so many that a thread's marks are of two each; more listed tokens than blocks.
        Shape{3, 33001, 8, 1, 1e-4}}) {
    for (const auto& [type, tolerance] : kTypes) {
      SCOPED_TRACE(cat(type, ", V ", s.vocabulary));
      const Tensor label_n = labels(s.rows, s.vocabulary);
      const LikelyTokens lists =
          expect_equal_errors(s.rows, s.vocabulary, type, s.spread, s.threshold, label_n, tolerance);
      const Pair u = random({s.rows, s.width}, type), x = random({s.rows, s.width}, type),
                 q = random({s.rows, s.width}, type), weight = random({s.vocabulary, s.width}, type),
                 nll_bar = random_wide({s.rows}, type);
      Pair factor = random_wide({s.rows}, type);
      factor.stored[1] = 0;
      factor.wide[1] = 0;
      const auto expected =
          likely_hessian(lists, {x.wide, u.wide, q.wide, label_n, factor.wide, nll_bar.wide}, weight.wide);
      const Tensor probability = lists.probability_nk.to(accumulate_type(type));
      // Its shapes alone: everything in it is written.
      LikelyHessian found{at::full_like(x.stored, 9), at::full_like(x.stored, 9), lists.token_nk,
                          at::full_like(probability, 9), at::full_like(factor.stored, 9)};
      emulated::likely_hessian({lists.token_nk, probability},
                               {x.stored, u.stored, q.stored, label_n, factor.stored, nll_bar.stored},
                               weight.stored, found);
      EXPECT_LT(distance(found.x_bar_nd, expected.x_bar_nd), tolerance);
      EXPECT_LT(distance(found.factor_nd, expected.factor_nd), tolerance);
      EXPECT_LT(distance(found.h_nk, expected.h_nk), tolerance);
      EXPECT_LT(distance(found.weight_bar_n, expected.weight_bar_n), tolerance);
      EXPECT_EQ(found.h_nk[1].abs().max().item<double>(), 0) << "a row of weight 0";
      Tensor sum = at::ones({s.vocabulary, s.width}, probability.options()),
             expected_sum = at::ones({s.vocabulary, s.width}, at::kDouble);
      emulated::add_token_sums_(sum, found.token_nk, found.h_nk, x.stored);
      add_token_sums_(expected_sum, expected.token_nk, expected.h_nk, x.wide);
      EXPECT_LT(distance(sum, expected_sum), tolerance);
    }
  }
}

// Keys of 16 and of 32 bits; a token in most rows, tokens in one, more of them than blocks, rows without.
TEST(EmulatedCuda, TokenSumsEqualTheCpu) {
  at::manual_seed(8);
  struct Shape {
    int64_t rows, places, vocabulary, width;
  };
  for (const Shape& s :
       {Shape{300, 1, 40, 24}, Shape{70, 3, 65534, 768}, Shape{70, 3, 65535, 17}, Shape{2600, 1, 9000, 8}}) {
    for (const auto& [type, tolerance] : kTypes) {
      SCOPED_TRACE(cat(type, ", ", s.rows, " x ", s.places, ", V ", s.vocabulary));
      Tensor token_nk = s.rows < s.vocabulary / 2 && s.places == 1
                            ? at::randperm(s.vocabulary).narrow(0, 0, s.rows).view({-1, 1})
                            : at::randint(-1, s.vocabulary, {s.rows, s.places});
      token_nk = token_nk.to(at::kInt);
      token_nk.narrow(0, 0, s.rows / 2).select(1, 0).fill_(s.vocabulary - 1);
      token_nk[1] = -1;
      const Pair factor = random_wide({s.rows, s.places}, type), x = random({s.rows, s.width}, type);
      Tensor sum = at::ones({s.vocabulary, s.width}, factor.stored.options()),
             expected = at::ones({s.vocabulary, s.width}, at::kDouble), by_index = expected.clone();
      emulated::add_token_sums_(sum, token_nk, factor.stored, x.stored);
      add_token_sums_(expected, token_nk, factor.wide, x.wide);
      for (int64_t k = 0; k < s.places; ++k) {
        const Tensor own = token_nk.select(1, k).to(at::kLong), is = (own >= 0).to(at::kDouble);
        by_index.index_add_(0, own.clamp_min(0), x.wide * (factor.wide.select(1, k) * is).unsqueeze(1));
      }
      EXPECT_LT(distance(expected, by_index), 1e-12);
      EXPECT_LT(distance(sum, expected), tolerance);
    }
  }
}

// Whole vectors, and lengths and beginnings that are none; with copies and without; skipped.
TEST(EmulatedCuda, AdamWEqualsTheCpu) {
  at::manual_seed(6);
  const auto number = [](double x) { return at::full({}, x, at::kFloat); };
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const auto& [count, first_element] :
         std::vector<std::pair<int64_t, int64_t>>{{4096, 0}, {5000, 4}, {1003, 0}, {1024, 3}}) {
      for (const double skip : {0.0, 1.0}) {
        SCOPED_TRACE(cat(type, ", ", count, " elements from ", first_element, ", skip ", skip));
        // {value, gradient, first and second moment} and the copy, each in the middle of a longer tensor.
        std::vector<Tensor> cpu, gpu;
        for (int i = 0; i < 4; ++i) {
          const Tensor all = at::randn({count + 16}, at::kDouble).abs();
          for (std::vector<Tensor>* side : {&cpu, &gpu})
            side->push_back(all.to(type, false, true).narrow(0, first_element, count));
        }
        const Tensor copy = at::zeros({count + 16}, at::kBFloat16).narrow(0, first_element, count),
                     expected_copy = copy.clone();
        const AdamWProgress progress{number(3), number(2.5), number(skip)};
        const AdamWRates rates{0.01, 0.9, 0.95, 1e-8, 0.1};
        adamw_update_(cpu[0], cpu[1], cpu[2], cpu[3], expected_copy, progress, rates);
        emulated::adamw_update_(gpu[0], gpu[1], gpu[2], gpu[3], copy, progress, rates);
        for (const int i : {0, 2, 3})
          EXPECT_LT(distance(gpu[i], cpu[i]), type == at::kFloat ? 1e-6 : 1e-12) << i;
        EXPECT_TRUE(at::equal(copy, skip == 1 ? at::zeros_like(copy) : gpu[0].to(at::kBFloat16)));
        const Tensor before = gpu[0].clone();
        emulated::adamw_update_(gpu[0], gpu[1], gpu[2], gpu[3], {}, progress, rates);
        EXPECT_EQ(at::equal(gpu[0], before), skip == 1);
      }
    }
  }
}

TEST(EmulatedCuda, SteppedRowsEqualTheCpu) {
  at::manual_seed(7);
  for (const auto& [type, tolerance] : kTypes) {
    for (const auto& [rows, width] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 16}, {11, 768}, {600, 16}, {3, 2064}}) {
      SCOPED_TRACE(cat(type, ", ", rows, " x ", width));
      const Pair x = random({rows, width}, type), r = random({rows, width}, type),
                 scale = random_wide({width}, type), bar = random({rows, width}, type);
      EXPECT_LT(distance(emulated::step_rows(x.stored, r.stored, scale.stored), x.wide - scale.wide * r.wide),
                tolerance);
      const auto b = emulated::step_rows_backward(bar.stored, r.stored, scale.stored);
      EXPECT_LT(distance(b.r_bar, -scale.wide * bar.wide), tolerance);
      EXPECT_LT(distance(b.scale_bar_k, -(bar.wide * r.wide).sum(0)), tolerance);
    }
  }
}

TEST(EmulatedCuda, NormsEqualTheCpu) {
  at::manual_seed(4);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t width : {16, 192, 768, 1040, 1544, 2064, 3080}) {
      for (const bool layer : {true, false}) {
        SCOPED_TRACE(cat(type, ", width ", width, layer ? ", layer norm" : ", rms norm"));
        if (refusal_of_norm("width", width, static_cast<int64_t>(c10::elementSize(type)))) continue;
        const Pair x = random({43, width}, type), delta = random({43, width}, type),
                   scale = random({width}, type), bias = random({width}, type),
                   norm_bar = random({43, width}, type), sum_bar = random({43, width}, type);
        std::vector<Tensor> leaves = {x.wide, delta.wide, scale.wide, bias.wide};
        for (Tensor& leaf : leaves) leaf = leaf.clone().requires_grad_(true);
        const AddNorm expected =
            add_norm(leaves[0], leaves[1], leaves[2], layer ? leaves[3] : Tensor(), 1e-5);
        const auto found =
            emulated::add_norm(x.stored, delta.stored, scale.stored, layer ? bias.stored : Tensor(), 1e-5);
        EXPECT_LT(distance(found.sum, expected.sum), tolerance);
        EXPECT_LT(distance(found.norm, expected.norm), tolerance);
        // The backward begins at the sum as it is stored.
        const Tensor sum = found.sum.to(at::kDouble).requires_grad_(true);
        const AddNorm from_sum = add_norm(sum, {}, leaves[2], layer ? leaves[3] : Tensor(), 1e-5);
        const auto bars = torch::autograd::grad(
            {(from_sum.norm * norm_bar.wide).sum() + (sum * sum_bar.wide).sum()},
            layer ? std::vector<Tensor>{sum, leaves[2], leaves[3]} : std::vector<Tensor>{sum, leaves[2]});
        const auto found_bars = emulated::add_norm_backward(
            found.sum, scale.stored, found.mean_n, found.inverse_sigma_n, norm_bar.stored, sum_bar.stored);
        EXPECT_LT(distance(found_bars.x_bar, bars[0]), tolerance);
        EXPECT_LT(distance(found_bars.scale_bar_d, bars[1]), tolerance);
        if (layer) EXPECT_LT(distance(found_bars.bias_bar_d, bars[2]), tolerance);
      }
      const Pair o = random({11, width}, type), scale = random({width}, type), q = random({11, width}, type),
                 v = random({11, width}, type);
      std::vector<Tensor> leaves = {o.wide, scale.wide, q.wide};
      for (Tensor& leaf : leaves) leaf = leaf.clone().requires_grad_(true);
      const Tensor expected = layer_norm_gradient(leaves[0], leaves[1], leaves[2], 1e-5);
      const auto bars = torch::autograd::grad({(expected * v.wide).sum()}, leaves);
      if (refusal_of_norm("width", o.stored.size(1), static_cast<int64_t>(c10::elementSize(type)))) continue;
      const auto found = emulated::norm_gradient(o.stored, scale.stored, q.stored, 1e-5);
      EXPECT_LT(distance(found.g_nd, expected), tolerance);
      const auto found_bars =
          emulated::norm_gradient_backward(o.stored, scale.stored, q.stored, found, v.stored);
      EXPECT_LT(distance(found_bars.o_bar_nd, bars[0]), tolerance);
      EXPECT_LT(distance(found_bars.scale_bar_d, bars[1]), tolerance);
      EXPECT_LT(distance(found_bars.q_bar_nd, bars[2]), tolerance);
    }
  }
}

TEST(EmulatedCuda, ActivationsEqualTheCpu) {
  at::manual_seed(5);
  for (const auto& [type, tolerance] : kTypes) {
    for (const Activation kind : {Activation::kSquaredRelu, Activation::kGelu}) {
      for (const int64_t columns : {64, 33}) {
        const Pair u = random({7, columns}, type), bar = random({7, columns}, type);
        EXPECT_LT(distance(emulated::activate(kind, u.stored), activate(kind, u.wide)), tolerance) << type;
        const auto found = emulated::activate_backward(kind, u.stored, bar.stored, true);
        const auto expected = activate_backward(kind, u.wide, bar.wide);
        EXPECT_LT(distance(found.act, expected.act), tolerance) << type;
        EXPECT_LT(distance(found.u_bar, expected.u_bar), tolerance) << type;
        if (kind == Activation::kSquaredRelu)
          EXPECT_LT(distance(emulated::squared_relu_backward(found.act, bar.stored), expected.u_bar),
                    tolerance);
      }
    }
  }
}

TEST(EmulatedCuda, TheDecayMaskEqualsTheCpu) {
  at::manual_seed(6);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t chunk : {5, 64, 130}) {
      for (const bool documents : {false, true}) {
        SCOPED_TRACE(cat(type, ", chunk ", chunk, documents ? ", documents" : ""));
        DecayMask mask{at::full({}, -0.02, at::kDouble), {}};
        if (documents) mask.document_nc = (at::rand({2, chunk}) < 0.1).to(at::kLong).cumsum(1);
        const Pair a = random({2, chunk, chunk}, type), b = random({2, chunk, chunk}, type);
        Tensor one = a.stored.clone(), first = a.stored.clone(), second = b.stored.clone();
        Tensor one_wide = a.wide.clone(), first_wide = a.wide.clone(), second_wide = b.wide.clone();
        emulated::apply_decay_mask_(one, {}, mask, false);
        apply_decay_mask_(one_wide, mask);
        EXPECT_LT(distance(one, one_wide), tolerance);
        const Tensor sum = emulated::apply_decay_mask_(first, second, mask, true);
        const Tensor expected = apply_decay_mask_to_both_(first_wide, second_wide, mask, true);
        EXPECT_LT(distance(first, first_wide), tolerance);
        EXPECT_LT(distance(second, second_wide), tolerance);
        EXPECT_NEAR(sum.item<double>(), expected.item<double>(), 10 * tolerance * chunk * chunk);
      }
    }
  }
}

// The kernel reads a row's documents by its number: those of another batch are beyond its memory.
TEST(EmulatedCuda, TheDecayMaskRefusesDocumentsOfOtherSizes) {
  Tensor score_nij = at::zeros({2, 8, 8});
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{1, 8}, {2, 9}, {16}, {3, 8}}) {
    const DecayMask mask{at::full({}, -0.02, at::kDouble), at::zeros(sizes, at::kLong)};
    EXPECT_THROW(emulated::apply_decay_mask_(score_nij, {}, mask, false), InternalError);
  }
}

TEST(EmulatedCuda, TheScanOverStatesEqualsTheCpu) {
  at::manual_seed(16);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t key_dim : {3, 8, 300}) {
      for (const ScanOrder order : {ScanOrder::kForward, ScanOrder::kBackward}) {
        SCOPED_TRACE(cat(type, ", keys of ", key_dim));
        const Pair added = random_wide({2, 5, 7, key_dim}, type), carry = random_wide({2, 1, 1, 1}, type);
        const StateScan found = emulated::scan_states(added.stored, carry.stored, type, order);
        const StateScan expected = scan_states(added.wide, carry.wide, at::kDouble, order);
        EXPECT_LT(distance(found.before_bgvk, expected.before_bgvk), tolerance);
        EXPECT_LT(distance(found.end_bvk, expected.end_bvk), 1e-5);
      }
    }
  }
}

TEST(EmulatedCuda, RotaryPositionsEqualTheCpu) {
  at::manual_seed(7);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t head_dim : {6, 16, 64}) {
      SCOPED_TRACE(cat(type, ", head ", head_dim));
      const auto wide = accumulate_type(type);
      const RotaryTable table = rotary_table(3, 5, head_dim, 10000, at::TensorOptions().dtype(wide));
      const RotaryTable exact = {table.cosine_te.to(at::kDouble), table.sine_te.to(at::kDouble)};
      const Pair qkv = random({2, 5, 3, 2, head_dim}, type);
      for (const Turn turn : {Turn::kForward, Turn::kBack}) {
        Tensor found = qkv.stored.clone(), expected = qkv.wide.clone();
        emulated::rotate_queries_keys_(found, table, turn);
        rotate_queries_keys_(expected, exact, turn);
        EXPECT_LT(distance(found, expected), tolerance);
      }
      const Pair q = random({2, 2, 5, head_dim}, type), v = random({2, 5, 2, head_dim}, type);
      EXPECT_LT(distance(emulated::gather_qkv_gradient(q.stored, {}, v.stored.transpose(1, 2), table,
                                                       qkv.stored.sizes(), qkv.stored.options()),
                         gather_qkv_gradient(q.wide, {}, v.wide.transpose(1, 2), exact, qkv.wide.sizes(),
                                             qkv.wide.options())),
                tolerance);
    }
  }
}

// What the emulation is for: a barrier that half of the threads do not reach would hang on a GPU.
TEST(EmulatedCuda, ThreadsThatWaitAtDifferentBarriersAreFound) {
  const auto half = [] {
    emulation::wait_for_block();
    if (emulation::thread_index.x % 32 < 16) {
      emulation::wait_for_block();
    } else {
      emulation::wait_for_warp();
    }
  };
  EXPECT_THROW(emulation::run(1, 64, 0, half), std::logic_error);
  EXPECT_THROW(emulation::run(1, 64, emulation::kSharedBytes + 1, [] {}), std::logic_error);
}

}  // namespace
}  // namespace fwl
