// What SentencePiece is trained on. Its own handling of white space would spend pieces badly on source code:
// it knows no newlines and glues indentation to the next word. So newlines, each with the indentation that
// often follows it, become user-defined symbols, which the library always takes whole, and training sees only
// the text between them. Encoding then needs no rule of ours: the longest symbol wins.
#include "data/tokenizer_training.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/sentencepiece_tokenizer.h"

namespace fwl {
namespace {

constexpr size_t kBlockBytes = 4096;     // unit of sampling
constexpr size_t kFewBlocks = 64;        // so many are always taken: shares of few would be rough
constexpr size_t kSentenceBytes = 4000;  // the library skips sentences above max_sentence_length
constexpr size_t kLongestIndentation = 32;
constexpr double kCoverage = 0.9999;    // of the text's characters have pieces; the rest is bytes
constexpr int64_t kFewestPieces = 300;  // 256 bytes, unknown, document start, newline and some characters

// End of the block of text that begins at `begin`: after a newline where there is one in reach.
size_t block_end(const std::string& text, size_t begin) {
  if (text.size() - begin <= kBlockBytes) return text.size();
  const size_t newline = text.find('\n', begin + kBlockBytes);
  return newline == std::string::npos || newline - begin > 4 * kBlockBytes ? begin + kBlockBytes
                                                                           : newline + 1;
}

std::vector<std::string> sample_blocks(const std::vector<DocumentFile>& files,
                                       const TokenizerTraining& options, SkippedLines* skipped) {
  double total = 0;
  for (const DocumentFile& f : files) total += static_cast<double>(f.bytes);
  double share = static_cast<double>(options.sample_bytes) / std::max(1.0, total);
  std::vector<std::string> blocks;
  std::vector<double> places;  // of the blocks, from 0 to 1
  int64_t bytes = 0;
  // Compressed files hold more text than bytes, and the size of a stream is not known: the share goes down.
  const auto thin_out = [&] {
    share = std::min(share, 1.0) / 2;
    size_t kept = 0;
    bytes = 0;
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (places[i] >= share) continue;
      bytes += static_cast<int64_t>(blocks[i].size());
      if (kept != i) blocks[kept] = std::move(blocks[i]);
      places[kept++] = places[i];
    }
    blocks.resize(kept);
    places.resize(kept);
  };
  for (const DocumentFile& file : files) {
    DocumentReader reader(file, options.format);
    size_t before = 0;  // bytes of the document in earlier pieces
    for (Piece piece; reader.next(piece);) {
      if (piece.begins) before = 0;
      for (size_t begin = 0, end = 0; begin < piece.text.size(); begin = end) {
        end = block_end(piece.text, begin);
        const uint64_t hash = hash_bytes(cat(piece.name, ':', before + begin));
        const double place = std::ldexp(static_cast<double>(hash >> 11), -53);
        if (place >= share) continue;
        blocks.push_back(piece.text.substr(begin, end - begin));
        places.push_back(place);
        bytes += static_cast<int64_t>(blocks.back().size());
        if (bytes / 2 > options.sample_bytes && blocks.size() > kFewBlocks) thin_out();
      }
      before += piece.text.size();
    }
    if (skipped != nullptr) skipped->add(reader.skipped_lines());
  }
  return blocks;
}

// Length of the run at `begin`: newlines, then spaces or tabs (not both).
size_t newline_run(const std::string& text, size_t begin) {
  size_t end = begin;
  while (end < text.size() && text[end] == '\n') ++end;
  const char fill = end < text.size() ? text[end] : 'x';
  const size_t indentation = end;
  while ((fill == ' ' || fill == '\t') && end < text.size() && text[end] == fill &&
         end - indentation < kLongestIndentation)
    ++end;
  return end - begin;
}

// The newline runs worth a piece, most frequent first: at least one in `kRarest` of all.
std::vector<std::string> frequent_runs(const std::vector<std::string>& blocks, int64_t vocab_size) {
  constexpr int64_t kRarest = 1000;
  std::map<std::string, int64_t> counts;
  int64_t total = 0;
  for (const std::string& block : blocks) {
    for (size_t at = block.find('\n'); at != std::string::npos;) {
      const size_t length = newline_run(block, at);
      ++counts[block.substr(at, length)];
      ++total;
      at = block.find('\n', at + length);
    }
  }
  counts.erase("\n");
  std::vector<std::pair<std::string, int64_t>> order(counts.begin(), counts.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> runs;
  for (const auto& [run, count] : order) {
    if (static_cast<int64_t>(runs.size()) >= vocab_size / 64 || count < 10 || count * kRarest < total) break;
    runs.push_back(run);
  }
  return runs;
}

// SentencePiece spells spaces as U+2581, in user-defined symbols too; the list is separated by commas.
std::string symbol_list(const std::vector<std::string>& runs) {
  std::string list = "\n";
  for (const std::string& run : runs) {
    list += ',';
    for (const char c : run) list += c == ' ' ? std::string("\xE2\x96\x81") : std::string(1, c);
  }
  return list;
}

// Text between newline runs, without what the tokenizer never shows to the library.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  Sentences(const std::vector<std::string>& blocks, const std::vector<std::string>& runs) : runs_(runs) {
    for (const std::string& block : blocks) add_block(block);
  }
  bool done() const override { return next_ >= sentences_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return sentences_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }
  // Whether blanks are among the characters that the coverage may leave out. Then there is one at least: the
  // library aborts over a required character that does not occur.
  bool has_few_blanks() {
    int64_t blanks = 0, characters = 0;
    for (const std::string& sentence : sentences_) {
      for (const char c : sentence) {
        blanks += c == ' ' ? 1 : 0;
        characters += (static_cast<unsigned char>(c) & 0xC0u) == 0x80u ? 0 : 1;
      }
    }
    if (blanks == 0 && characters > 0) sentences_.emplace_back(" ");
    return static_cast<double>(blanks) < 2 * (1 - kCoverage) * static_cast<double>(characters);
  }

 private:
  void add_block(const std::string& block) {
    for (size_t at = 0; at < block.size();) {
      at += symbol_length(block, at);
      const size_t end = std::min(block.find('\n', at), block.size());
      add_line(std::string_view(block).substr(at, end - at));
      at = end;
    }
  }
  // Length of the user-defined symbol at `at`, as the library would match it; 0 when no newline is there.
  size_t symbol_length(const std::string& block, size_t at) const {
    size_t longest = block[at] == '\n' ? 1 : 0;
    for (const std::string& run : runs_) {
      if (run.size() > longest && block.compare(at, run.size(), run) == 0) longest = run.size();
    }
    return longest;
  }
  void add_line(std::string_view line) {
    while (!line.empty()) {
      const std::string_view plain = line.substr(0, plain_prefix(line.substr(0, kSentenceBytes)));
      if (!plain.empty()) sentences_.emplace_back(plain);
      line.remove_prefix(std::max<size_t>(1, plain.size()));
    }
  }

  const std::vector<std::string>& runs_;
  std::vector<std::string> sentences_;
  size_t next_ = 0;
};

std::unordered_map<std::string, std::string> flags_of(const TokenizerTraining& options,
                                                      const std::vector<std::string>& runs, bool few_blanks) {
  std::unordered_map<std::string, std::string> flags = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"user_defined_symbols", symbol_list(runs)},
      {"character_coverage", cat(kCoverage)},
      {"max_sentence_length", std::to_string(2 * kSentenceBytes)},
      {"shuffle_input_sentence", "false"},
      {"num_threads", "1"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"},
      {"minloglevel", "3"}};
  // A blank without a piece would become the bytes of U+2581, as which the library spells it. Where the
  // coverage holds it anyway the flag stays away: it is written into the model, whose hash it would change.
  if (few_blanks) flags["required_chars"] = "\xE2\x96\x81";
  return flags;
}

// The last whole number in the library's message: it ends with the size that would do.
int64_t last_number(const std::string& message) {
  const size_t end = message.find_last_of("0123456789");
  if (end == std::string::npos) return -1;
  const size_t before = message.find_last_not_of("0123456789", end);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return end - begin > 9 ? -1 : std::stoll(message.substr(begin, end - begin + 1));
}

[[noreturn]] void explain_failure(const std::string& message, int64_t vocab_size) {
  const auto mentions = [&](const char* words) { return message.find(words) != std::string::npos; };
  if (mentions("too high")) {
    throw ConfigError(cat("--vocab-size ", vocab_size,
                          " is too large for this text (it has no more pieces to merge). Give at most ",
                          last_number(message), ", or more text."));
  }
  if (mentions("smaller than required_chars")) {
    throw ConfigError(cat("--vocab-size ", vocab_size,
                          " is too small for this text (its characters and the 256 bytes need more). "
                          "Give at least ",
                          last_number(message) + 1, "."));
  }
  throw ConfigError(cat("a vocabulary of ", vocab_size, " cannot be trained on this text (", message,
                        "). Change --vocab-size or the text."));
}

}  // namespace

std::string train_sentencepiece(const std::vector<DocumentFile>& documents, const TokenizerTraining& options,
                                SkippedLines* skipped) {
  require<ConfigError>(options.vocab_size >= kFewestPieces && options.vocab_size <= 1'000'000,
                       "--vocab-size ", options.vocab_size,
                       " is out of range (259 pieces are taken by bytes and marks). Give ", kFewestPieces,
                       " to 1000000, or use the byte tokenizer.");
  require<ConfigError>(options.sample_bytes > 0, "--sample-bytes ", options.sample_bytes,
                       " leaves no text. Give at least 1.");
  const std::vector<std::string> blocks = sample_blocks(documents, options, skipped);
  const std::vector<std::string> runs = frequent_runs(blocks, options.vocab_size);
  Sentences sentences(blocks, runs);
  require<DataError>(!sentences.done(), "the ", documents.size(),
                     " file(s) hold no text to train a tokenizer on. Check the paths and --include.");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      flags_of(options, runs, sentences.has_few_blanks()), &sentences, &model);
  if (!status.ok()) explain_failure(status.ToString(), options.vocab_size);
  return model;
}

}  // namespace fwl
