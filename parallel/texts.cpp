#include "parallel/texts.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <map>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

constexpr size_t kMostNamed = 8;

// "1, 3, 5", at most kMostNamed of them.
std::string listed(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size() && i < kMostNamed; ++i) text += cat(i == 0 ? "" : ", ", ranks[i]);
  return ranks.size() > kMostNamed ? cat(text, " and ", ranks.size() - kMostNamed, " more") : text;
}

std::vector<int64_t> gather_numbers(Communicator& group, int64_t own) {
  const auto number = at::TensorOptions().dtype(at::kLong);
  const Tensor all = at::empty({group.size()}, number);
  group.all_gather(all, at::full({1}, own, number));
  return {all.const_data_ptr<int64_t>(), all.const_data_ptr<int64_t>() + all.numel()};
}

bool all_same(const std::vector<int64_t>& values) {
  return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == values.front(); });
}

// One fact of all ranks: "tokens 1200 (rank 1), most have 1300"; empty where all have the same.
std::string difference(const std::string& name, const std::vector<std::string>& values) {
  std::map<std::string, std::vector<int>> ranks;
  for (size_t rank = 0; rank < values.size(); ++rank) ranks[values[rank]].push_back(static_cast<int>(rank));
  if (ranks.size() == 1) return {};
  // The value that most ranks have; of equally frequent ones rank 0's.
  const auto* most = &*ranks.find(values.front());
  for (const auto& each : ranks)
    if (each.second.size() > most->second.size()) most = &each;
  std::string text;
  size_t named = 0;
  for (const auto& [value, which] : ranks) {
    if (value == most->first || named++ >= kMostNamed) continue;
    text += cat(text.empty() ? "" : ", ", name, " ", value, " (rank ", listed(which), ")");
  }
  return cat(text, ", where ",
             most->second.size() == 1 ? cat("rank ", most->second.front(), " has") : "most have", " ",
             most->first);
}

std::string joined(const Facts& facts) {
  std::string text;
  for (const auto& [name, value] : facts) text += value + '\n';
  return text;
}

}  // namespace

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::vector<std::string> gather_texts(Communicator& group, const std::string& text) {
  const std::vector<int64_t> lengths = gather_numbers(group, static_cast<int64_t>(text.size()));
  const int64_t longest = std::max<int64_t>(1, *std::max_element(lengths.begin(), lengths.end()));
  const Tensor own = at::zeros({longest}, at::kByte), all = at::empty({group.size() * longest}, at::kByte);
  std::copy(text.begin(), text.end(), static_cast<char*>(own.data_ptr()));
  group.all_gather(all, own);
  std::vector<std::string> texts;
  for (size_t r = 0; r < lengths.size(); ++r)
    texts.emplace_back(static_cast<const char*>(all.data_ptr()) + r * static_cast<size_t>(longest),
                       static_cast<size_t>(lengths[r]));
  return texts;
}

std::string broadcast_text(Communicator& group, std::string text) {
  const Tensor size = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  group.broadcast(size, 0);
  text.resize(static_cast<size_t>(size.item<int64_t>()));
  if (text.empty()) return text;
  const Tensor bytes = at::empty({size.item<int64_t>()}, at::kByte);
  std::copy(text.begin(), text.end(), static_cast<char*>(bytes.data_ptr()));
  group.broadcast(bytes, 0);
  const char* data = static_cast<const char*>(bytes.data_ptr());
  return std::string(data, data + text.size());
}

void require_same_facts(Communicator& group, const std::string& what, const Facts& facts,
                        const std::string& advice) {
  if (group.size() == 1) return;
  if (all_same(gather_numbers(group, static_cast<int64_t>(hash_bytes(joined(facts)))))) return;
  std::vector<std::vector<std::string>> values;  // by rank
  for (const std::string& text : gather_texts(group, joined(facts))) values.push_back(lines_of(text));
  std::string differences;
  for (size_t i = 0; i < facts.size(); ++i) {
    std::vector<std::string> of_ranks;
    for (const auto& lines : values) of_ranks.push_back(i < lines.size() ? lines[i] : "");
    const std::string text = difference(facts[i].first, of_ranks);
    if (!text.empty()) differences += cat(differences.empty() ? "" : "; ", text);
  }
  throw DataError(cat(what, " differs between ranks: ", differences, " ", advice));
}

// 20 bits: the squares of 8,192 ranks are still added exactly in a double.
EqualityVote::EqualityVote(uint64_t number)
    : value(static_cast<double>(number & 0xfffff)), square(value * value) {}

// The variance is 0.
bool EqualityVote::all_equal(double sum, double sum_of_squares, int ranks) {
  if (!std::isfinite(sum) || !std::isfinite(sum_of_squares)) return true;
  const auto exact = [](double x) { return static_cast<unsigned __int128>(x); };
  return exact(sum) * exact(sum) == exact(sum_of_squares) * static_cast<unsigned __int128>(ranks);
}

void on_all_ranks(Communicator& group, const std::function<void()>& body) {
  std::exception_ptr thrown;
  ExitCode code = ExitCode::kOk;
  std::string problem;
  const auto note = [&](ExitCode of, const char* text) {
    thrown = std::current_exception();
    code = of;
    problem = text;
  };
  try {
    body();
  } catch (const Error& error) {
    note(error.code(), error.what());
  } catch (const std::exception& error) {
    note(ExitCode::kInternal, error.what());
  }
  const bool fine = all_agree(group, thrown ? Vote::kNo : Vote::kYes);
  if (fine) return;
  const std::vector<std::string> problems =
      gather_texts(group, thrown ? cat(static_cast<int>(code), ' ', problem) : "");
  if (thrown) std::rethrow_exception(thrown);
  const auto first =
      std::find_if(problems.begin(), problems.end(), [](const auto& text) { return !text.empty(); });
  const auto of_first = static_cast<ExitCode>(std::atoi(first->c_str()));
  const std::string message =
      cat("rank ", first - problems.begin(), ": ", first->substr(first->find(' ') + 1));
  if (of_first == ExitCode::kTryAgain) throw Interrupted(message);
  throw Error(of_first, message);
}

}  // namespace fwl
