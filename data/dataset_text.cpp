#include "data/dataset_text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokensAtOnce = 1 << 18;

// Where the document goes; its folder is made.
std::string free_path(const std::string& folder, const std::string& name) {
  const fs::path relative(name);
  const bool leaves =
      relative.is_absolute() || std::find(relative.begin(), relative.end(), "..") != relative.end();
  require<DataError>(!leaves && relative.has_filename(), "document '", name,
                     "' has a name that leaves the output folder (the data set is damaged, or not "
                     "to be trusted). Run `fwl data check`.");
  const fs::path path = fs::path(folder) / relative;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  require<DataError>(!error, "folder '", path.parent_path().string(), "' cannot be made: ", error.message(),
                     ". Choose a folder that can be written.");
  std::string candidate = path.string();
  for (int n = 2; fs::exists(candidate); ++n) candidate = cat(path.string(), '.', n);
  return candidate;
}

void write_document(const Split& split, const Document& document, const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  std::vector<int64_t> tokens;
  int64_t written = 0;
  for (int64_t done = 0; done < document.num_tokens; done += kTokensAtOnce) {
    tokens.resize(static_cast<size_t>(std::min(kTokensAtOnce, document.num_tokens - done)));
    split.read_tokens(document.first_token + done, static_cast<int64_t>(tokens.size()), tokens.data());
    const std::string text = split.tokenizer().decode({tokens.begin(), tokens.end()});
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    written += static_cast<int64_t>(text.size());
  }
  out.close();
  require<DataError>(out.good(), "writing '", path, "' failed: ", std::strerror(errno),
                     ". Free space or check the folder's permissions.");
  require<DataError>(written == document.num_bytes, "document '", document.name, "' decodes to ", written,
                     " bytes, its index says ", document.num_bytes,
                     " (another tokenizer, or damaged). Run `fwl data check`.");
}

}  // namespace

TextReport write_documents(const Split& split, const std::string& folder) {
  TextReport report;
  for (int64_t i = 0; i < split.num_documents(); ++i) {
    const Document document = split.document(i);
    write_document(split, document, free_path(folder, document.name));
    report.documents += 1;
    report.bytes += document.num_bytes;
  }
  return report;
}

}  // namespace fwl
