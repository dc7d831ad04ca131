#include <ATen/CPUGeneratorImpl.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/model/sampling.h"
#include "launch/command.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

struct GenerateArguments {
  ModelSource source;
  std::string prefix, json_path;
  int64_t tokens = 200, seed = 1;
  SamplingOptions sampling;
};

// Reads the prompt once, then one token at a time against the key-value cache. Stops at the end of the
// document.
std::vector<int32_t> decode(const LoadedModel& loaded, const std::vector<int32_t>& prompt,
                            const GenerateArguments& a) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(a.seed));
  const auto index = at::TensorOptions().dtype(at::kLong);
  std::vector<int32_t> generated;
  ContinuedSequence memory;
  Tensor input_bt = at::tensor(std::vector<int64_t>(prompt.begin(), prompt.end()), index).unsqueeze(0);
  for (int64_t i = 0; i < a.tokens; ++i) {
    // A model may have more rows than its tokenizer has tokens (a padded vocabulary): those are never drawn.
    const Tensor logits_v =
        loaded.model->next_logits(input_bt.to(loaded.model->device()), memory)[0][-1].narrow(
            0, 0, loaded.tokenizer->vocab_size());
    const int64_t token = sample_token(logits_v, a.sampling, generator);
    if (token == loaded.tokenizer->document_start()) break;
    generated.push_back(static_cast<int32_t>(token));
    input_bt = at::full({1, 1}, token, index);
  }
  return generated;
}

void run_generate(const GenerateArguments& a) {
  set_thread_count(1);
  const LoadedModel loaded = load_model(a.source);
  std::vector<int32_t> prompt = {loaded.tokenizer->document_start()};
  const std::vector<int32_t> text = loaded.tokenizer->encode(a.prefix);
  prompt.insert(prompt.end(), text.begin(), text.end());
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int32_t> generated = decode(loaded, prompt, a);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::string continuation = loaded.tokenizer->decode(generated);
  std::cout << a.prefix << continuation << std::endl;
  log_info(cat(generated.size(), " tokens in ", seconds, " s"));
  using nlohmann::json;
  // The text may be cut inside a character: what is no UTF-8 is replaced in the JSON.
  const json report = {{"prefix", a.prefix},
                       {"text", continuation},
                       {"tokens", generated},
                       {"seconds", seconds},
                       {"seed", a.seed}};
  if (!a.json_path.empty())
    write_json(a.json_path, json::parse(report.dump(-1, ' ', false, json::error_handler_t::replace)));
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto a = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand(
      "generate", "continue a text with a trained model (static weights, key-value cache)");
  add_model_options(*command, a->source);
  command->add_option("--prefix", a->prefix, "text to continue")->required()->type_name("TEXT");
  command->add_option("--tokens", a->tokens, "tokens to generate at most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", a->sampling.temperature, "0: always the most probable token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-k", a->sampling.top_k, "draw from the K most probable tokens; 0: from all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", a->seed, "seed of the draws")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_json_option(*command, a->json_path);
  command->callback([a] { run_generate(*a); });
}

}  // namespace fwl
