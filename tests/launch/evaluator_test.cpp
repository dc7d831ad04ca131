#include "launch/evaluator.h"

#include <gtest/gtest.h>

#include "tests/data/tiny_dataset.h"
#include "tests/support/small_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class EvaluatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto tokenizer = make_tokenizer("byte", "", "");
    write_dataset(folder_ / "set",
                  {{"a", some_text(333, 1)},
                   {"b", some_text(50, 2)},
                   {"c", some_text(97, 3)},
                   {"d", some_text(7, 4)},
                   {"e", some_text(96, 5)}},
                  *tokenizer, 1000000);
    split_ = std::make_unique<Split>(folder_ / "set");
    config_ = small_model_config();
    config_.vocab_size = split_->vocab_size();
  }

  double nats(EvalMode mode, int64_t context, int64_t batch, const std::string& carry = "document") {
    LanguageModel model(config_, at::kCPU, at::kDouble, 2);
    EvalOptions options;
    options.context = context;
    options.batch = batch;
    options.carry = carry;
    const EvalResult result = Evaluator(model, *split_, options).run(mode, {});
    EXPECT_EQ(result.tokens, 333 + 50 + 97 + 7 + 96);
    return result.nats_per_token();
  }

  TemporaryFolder folder_;
  std::unique_ptr<Split> split_;
  ModelConfig config_;
};

TEST_F(EvaluatorTest, CarriedWindowsEqualOneLongPassOverEveryDocument) {
  for (const double decay : {0.97, 1.0}) {
    config_.fast_weight.decay_init = decay;
    const double whole = nats(EvalMode::kFast, 1000, 1);
    for (const int64_t context : {16, 24, 50}) {
      for (const int64_t batch : {1, 2, 8})
        EXPECT_NEAR(nats(EvalMode::kCarried, context, batch), whole, 1e-10) << context << " x " << batch;
    }
    EXPECT_GT(std::abs(nats(EvalMode::kFast, 24, 8) - whole), 1e-4) << "windows that start from zero differ";
  }
}

TEST_F(EvaluatorTest, CarryingTheWholeStreamCrossesDocuments) {
  const double documents = nats(EvalMode::kCarried, 24, 1),
               stream = nats(EvalMode::kCarried, 24, 1, "stream");
  EXPECT_GT(std::abs(documents - stream), 1e-4);
  EXPECT_NEAR(nats(EvalMode::kCarried, 50, 1, "stream"), stream, 1e-10)
      << "the window's length does not matter";
}

}  // namespace
}  // namespace fwl
