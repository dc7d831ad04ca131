#include "data/document_reader.h"

#include <bzlib.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/utf8.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::string gzipped(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd_of(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string bzip2_of(const std::string& text) {
  std::string out(text.size() + text.size() / 50 + 600, '\0');
  auto size = static_cast<unsigned>(out.size());
  BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(text.data()),
                           static_cast<unsigned>(text.size()), 9, 0, 0);
  out.resize(size);
  return out;
}

std::string xz_of(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                          text.size(), reinterpret_cast<uint8_t*>(out.data()), &size, out.size());
  out.resize(size);
  return out;
}

class DocumentReaderTest : public testing::Test {
 protected:
  struct Document {
    std::string name, text;
    int pieces = 0;
    size_t longest = 0;
  };
  std::vector<Document> read(const std::string& name, const std::string& content,
                             const DocumentFormat& format = {}) {
    write_text(folder_ / name, content);
    DocumentReader reader({folder_ / name, name, 0}, format);
    std::vector<Document> documents;
    bool open = false;
    for (Piece piece; reader.next(piece);) {
      EXPECT_EQ(piece.begins, !open);
      if (piece.begins) documents.push_back({piece.name, "", 0, 0});
      documents.back().text += piece.text;
      documents.back().pieces += 1;
      documents.back().longest = std::max(documents.back().longest, piece.text.size());
      open = !piece.ends;
    }
    EXPECT_FALSE(open);
    return documents;
  }
  static std::string long_text(size_t bytes) {
    std::string text;
    for (uint64_t i = 0; text.size() < bytes; ++i)
      text += some_text(static_cast<int64_t>(mix_bits(i) % 200), i) + (i % 7 == 0 ? "\n\n" : "\n");
    return text;
  }
  TemporaryFolder folder_;
};

TEST_F(DocumentReaderTest, AFileIsOneDocument) {
  const auto documents = read("a.txt", "one\ntwo\n");
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].name, "a.txt");
  EXPECT_EQ(documents[0].text, "one\ntwo\n");
}

TEST_F(DocumentReaderTest, AnEmptyFileIsAnEmptyDocument) {
  ASSERT_EQ(read("a.txt", "").size(), 1u);
  EXPECT_TRUE(read("a.jsonl", "").empty());
  EXPECT_TRUE(read("a.txt", "", {"text", "^x"}).empty());
}

TEST_F(DocumentReaderTest, LongTextComesInPiecesThatEndBeforeARunOfNewlines) {
  const std::string text = long_text(5 * kPieceBytes);
  const auto documents = read("a.txt", text);
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].text, text);
  EXPECT_GE(documents[0].pieces, 5);
  EXPECT_LE(documents[0].longest, kPieceBytes);
  const size_t cut = piece_length(text);
  EXPECT_EQ(text[cut], '\n');
  EXPECT_NE(text[cut - 1], '\n');
}

TEST_F(DocumentReaderTest, OneEndlessLineIsCutBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 3 * kPieceBytes) text += "\xE2\x82\xAC";
  const auto documents = read("a.txt", text);
  EXPECT_EQ(documents.at(0).text, text);
  EXPECT_EQ(invalid_utf8_bytes(text.substr(0, piece_length(text))), 0);
}

TEST_F(DocumentReaderTest, CompressedFilesGiveTheirTextUnderThePlainName) {
  const std::string text = long_text(3 * kPieceBytes);
  for (const auto& [name, content] :
       {std::pair{"a.txt.gz", gzipped(text)}, std::pair{"a.txt.zst", zstd_of(text)},
        std::pair{"b.txt.gz", gzipped(text.substr(0, 1000)) + gzipped(text.substr(1000))},
        std::pair{"b.txt.zst", zstd_of(text.substr(0, 1000)) + zstd_of(text.substr(1000))}}) {
    const auto documents = read(name, content);
    ASSERT_EQ(documents.size(), 1u) << name;
    EXPECT_EQ(documents[0].text, text) << name;
    EXPECT_EQ(documents[0].name, std::string(name).substr(0, 5));
  }
}

TEST_F(DocumentReaderTest, DamagedCompressedFilesAreDataErrors) {
  const std::string text = long_text(100'000);
  for (const auto& [name, content] : {std::pair{"a.gz", gzipped(text)}, std::pair{"a.zst", zstd_of(text)}}) {
    EXPECT_THROW(read(name, content.substr(0, content.size() / 2)), DataError) << name;
    std::string damaged = content;
    damaged[0] = 'x';
    EXPECT_THROW(read(name, damaged), DataError) << name;
  }
}

TEST_F(DocumentReaderTest, JsonLinesGiveOneDocumentALine) {
  const std::string text =
      "{\"text\":\"a\\nb\"}\n\n{\"n\": 1, \"text\":\"\xC3\xA9\\u00e9\"}\n{\"text\":\"\"}";
  for (const auto& [name, content] : {std::pair{"c.jsonl", text}, std::pair{"c.jsonl.gz", gzipped(text)},
                                      std::pair{"c.jsonl.zst", zstd_of(text)}}) {
    const auto documents = read(name, content);
    ASSERT_EQ(documents.size(), 3u) << name;
    EXPECT_EQ(documents[0].name, "c.jsonl/1");
    EXPECT_EQ(documents[0].text, "a\nb");
    EXPECT_EQ(documents[1].name, "c.jsonl/3");
    EXPECT_EQ(documents[1].text, "\xC3\xA9\xC3\xA9");
    EXPECT_EQ(documents[2].text, "");
  }
}

TEST_F(DocumentReaderTest, BadJsonLinesArePassedOverWhenAskedTo) {
  DocumentFormat format;
  format.bad_lines = BadLines::kSkip;
  write_text(folder_ / "c.jsonl", "{\"text\":\"a\"}\n[1]\n{\"text\":7}\n\n{\"text\":\"b\"}\n{\"text\":\"cu");
  DocumentReader reader({folder_ / "c.jsonl", "c.jsonl", 0}, format);
  std::vector<std::string> names;
  for (Piece piece; reader.next(piece);) names.push_back(piece.name);
  EXPECT_EQ(names, (std::vector<std::string>{"c.jsonl/1", "c.jsonl/5"}));
  ASSERT_EQ(reader.skipped_lines().count, 3);
  EXPECT_EQ(reader.skipped_lines().first[2].line, 6);
}

TEST_F(DocumentReaderTest, AMarkOfUtf8BeforeJsonLinesIsNoLine) {
  const std::string mark = "\xEF\xBB\xBF", line = "{\"text\":\"a\"}\n";
  for (const auto& [content, documents] :
       {std::pair{mark, 0u}, std::pair{mark + "\n", 0u}, std::pair{mark + line, 1u},
        std::pair{mark + " \r\n" + line, 1u}, std::pair{mark + "{\"text\":\"a\",\"n\":NaN}\n" + line, 2u}})
    EXPECT_EQ(read("c.jsonl", content).size(), documents) << content;
  EXPECT_THROW(read("c.jsonl", line + mark + "\n"), DataError);
}

TEST_F(DocumentReaderTest, NumbersThatAreNotFiniteAreNoDamage) {
  for (const char* number :
       {"NaN", "Infinity", "-Infinity", "1e999", "-1E+999", "[NaN, 1, {\"b\": -Infinity}]"}) {
    EXPECT_EQ(
        read("c.jsonl", cat("{\"a\":", number, ",\"text\":\"NaN, 1e999 \\\" Infinity\", \"b\":", number, "}"))
            .at(0)
            .text,
        "NaN, 1e999 \" Infinity")
        << number;
  }
  EXPECT_EQ(read("c.jsonl", "{\"a\":NaN,\"text\":\"\xFF\"}").at(0).text, "\xFF");
  for (const char* number : {"NaNa", "infinity", "nan", "1e", "Infinity0"})
    EXPECT_THROW(read("c.jsonl", cat("{\"a\":", number, ",\"text\":\"a\"}")), DataError) << number;
  EXPECT_THROW(read("c.jsonl", "{\"text\":NaN}"), DataError);
}

TEST_F(DocumentReaderTest, TextIsCutIntoLinesOrBlocks) {
  const std::string text = "\n one\ntwo\r\n\n \nthree\nfour\n\n\nfive";
  const auto texts = [&](DocumentCut cut, int64_t bytes) {
    DocumentFormat format;
    format.cut = cut;
    format.document_bytes = bytes;
    std::vector<std::string> found;
    std::string all;
    for (const Document& d : read("a.txt", text, format)) {
      EXPECT_EQ(d.name, cat("a.txt/", found.size() + 1));
      found.push_back(d.text);
      all += d.text;
    }
    EXPECT_EQ(all, text);
    return found;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(texts(DocumentCut::kLines, 0),
            (Texts{"\n one\n", "two\r\n\n \n", "three\n", "four\n\n\n", "five"}));
  EXPECT_EQ(texts(DocumentCut::kBlocks, 0), (Texts{"\n one\ntwo\r\n\n \n", "three\nfour\n\n\n", "five"}));
  EXPECT_EQ(texts(DocumentCut::kLines, 12), (Texts{"\n one\ntwo\r\n\n \n", "three\nfour\n\n\n", "five"}));
  EXPECT_EQ(texts(DocumentCut::kBlocks, 100), (Texts{text}));
}

// A long line is read in parts, of which the last one, or all but that, may hold nothing but blanks.
TEST_F(DocumentReaderTest, APartOfALongLineIsNoBlankLine) {
  DocumentFormat format;
  format.cut = DocumentCut::kBlocks;
  for (const size_t length :
       {size_t{1} << 16, (size_t{1} << 16) - 1, (size_t{1} << 16) - 2, size_t{1} << 17}) {
    const std::string line(length, 'x'), blanks(length, ' ');
    EXPECT_EQ(read("a.txt", line + "\nsecond\n\nthird\n", format).size(), 2u) << length;
    EXPECT_EQ(read("a.txt", "first\n" + blanks + "x\nsecond\n\nthird\n", format).size(), 2u) << length;
    EXPECT_EQ(read("a.txt", "first\n" + blanks + "\nsecond\n", format).size(), 2u) << length;
  }
}

TEST_F(DocumentReaderTest, BytesThatAreNoTextAreKnown) {
  EXPECT_EQ(why_no_text("plain text\n"), "");
  EXPECT_EQ(why_no_text("\xEF\xBB\xBFmarked UTF-8"), "");
  EXPECT_EQ(why_no_text("caf\xE9, Latin-1"), "");
  EXPECT_EQ(why_no_text(std::string("a few\0zero bytes are kept", 24)), "");
  EXPECT_EQ(why_no_text("PAR1 and GIF8 may begin a text"), "");
  EXPECT_EQ(why_no_text("BZh, as one says"), "");
  EXPECT_NE(why_no_text(std::string(100, '\0')), "");
  EXPECT_NE(why_no_text(std::string("P\0K\0", 4)), "");
}

// `text`, code points below 0x10000, in units of `size` bytes.
std::string in_units(const std::u16string& text, size_t size, bool little) {
  std::string out;
  for (const char16_t c : text)
    for (size_t i = 0; i < size; ++i) {
      const size_t byte = little ? i : size - 1 - i;
      out += byte < 2 ? static_cast<char>(c >> (8 * byte)) : '\0';
    }
  return out;
}

TEST_F(DocumentReaderTest, Utf16AndUtf32AreKnownWithAndWithoutAMark) {
  for (const std::u16string text :
       {u"plain words\nof ASCII\n", u"all\u00E9 d\u00E9j\u00E0 vu, voil\u00E0\n",
        u"\u0432\u0441\u0435 "
        u"\u043B\u044E\u0434\u0438\n\u0440\u043E\u0436\u0434\u0430\u044E\u0442\u0441\u044F\n",
        u"\u5929\u5730\u7384\u9EC3 \u5B87\u5B99\u6D2A\u8352\n\u65E5\u6708\u76C8\u6603 "
        u"\u8FB0\u5BBF\u5217\u5F20\n"}) {
    for (const size_t size : {2, 4}) {
      for (const bool little : {true, false}) {
        const std::string name = cat("UTF-", 8 * size, little ? "LE" : "BE");
        const std::string bare = why_no_text(in_units(text, size, little));
        EXPECT_NE(bare.find(name + " text without a mark"), std::string::npos) << name << ": " << bare;
        const std::string marked = why_no_text(in_units(u"\uFEFF" + text, size, little));
        EXPECT_NE(marked.find(name + " text, not"), std::string::npos) << name << ": " << marked;
      }
    }
  }
}

// Every packing, in one and several members, with padding, cut, with a byte changed, named for something
// else.
TEST_F(DocumentReaderTest, AllPackingsAreReadAndTheirDamageIsFound) {
  const std::string text = long_text(100'000);
  const struct {
    const char* ending;
    std::string (*pack)(const std::string&);
  } kinds[] = {{".gz", gzipped}, {".zst", zstd_of}, {".bz2", bzip2_of}, {".xz", xz_of}};
  for (const auto& [ending, pack] : kinds) {
    const std::string whole = pack(text), name = cat("a.txt", ending);
    EXPECT_EQ(read(name, whole).at(0).name, "a.txt");
    EXPECT_EQ(read("plain.txt", whole).at(0).text, text) << "under any name";
    EXPECT_EQ(read(cat("A.TXT", ending == std::string(".gz") ? ".GZ" : ending), whole).at(0).name, "A.TXT");
    EXPECT_EQ(read(name, pack(text.substr(0, 999)) + pack("") + pack(text.substr(999))).at(0).text, text)
        << ending;
    EXPECT_EQ(read(name, whole + std::string(1000, '\0')).at(0).text, text) << ending;
    EXPECT_EQ(read(name, whole + std::string(7, '\0') + whole).at(0).text, text + text) << ending;
    EXPECT_EQ(read(name, whole + "other bytes").at(0).text, text) << ending;
    EXPECT_EQ(read(name + ".gz", gzipped(whole)).at(0).text, text) << ending;
    for (const size_t size : {whole.size() / 2, whole.size() - 1, whole.size() - 5, size_t{20}, size_t{3}})
      EXPECT_THROW(read(name, whole.substr(0, size)), DataError) << ending << ' ' << size;
    EXPECT_THROW(read(name, whole + whole.substr(0, 2)), DataError) << ending << ": a second member is cut";
    EXPECT_THROW(read(name, whole + whole.substr(0, 30)), DataError) << ending;
    for (const std::string& other : {std::string(), std::string(500, '\0'), std::string("plain text\n")})
      EXPECT_THROW(read(name, other), DataError) << ending << ": " << other.size();
  }
}

// Frames by hand: a header, and one block of three bytes as they are.
TEST_F(DocumentReaderTest, SoundDataThatCannotBeDecodedIsNotDamaged) {
  const std::string magic = "\x28\xB5\x2F\xFD", block("\x19\0\0abc", 6);
  EXPECT_EQ(read("a.zst", magic + "\x20\x03" + block).at(0).text, "abc");
  for (const auto& [header, words] :
       {std::pair{std::string("\x21\x07\x03"), "dictionary"}, std::pair{std::string("\0\xB0", 2), "2 GiB"}}) {
    const std::string message = message_of<UnavailableError>([&] { read("a.zst", magic + header + block); });
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
}

TEST_F(DocumentReaderTest, BadJsonLinesNameFileAndLine) {
  for (const std::string& line :
       {std::string("{\"text\": 7}"), std::string("{\"other\": \"a\"}"), std::string("[1]"),
        std::string("{\"text\": \"a\""), std::string("{\"text\": \"\xFF"), std::string("\xFF"),
        std::string("\\"),
        // What would be lost without a word: all behind a zero byte, and the first of two texts.
        std::string("{\"text\":\"a\"}\0{\"text\":\"b\"}", 25), std::string("{\"text\":\"a\"}\0", 13),
        std::string("{\"text\":\"a\",\"text\":\"b\"}"),
        std::string("{\"text\":\"a\",\"n\":NaN,\"text\":\"\xFF\"}")}) {
    const std::string message =
        message_of<DataError>([&] { read("c.jsonl", cat("{\"text\":\"a\"}\n", line, "\n")); });
    EXPECT_NE(message.find("c.jsonl, line 2"), std::string::npos) << line << ": " << message;
  }
  EXPECT_EQ(read("c.jsonl", "{\"body\": \"a\"}", {"body", ""}).at(0).text, "a");
  const std::string nested = R"({"a":{"text":"b","text":"c"},"text":"\"text\" \u0000","b":["text","text"]})";
  EXPECT_EQ(read("c.jsonl", nested).at(0).text, std::string("\"text\" \0", 8));
}

// Web dumps hold both: bytes that are no UTF-8, and half a surrogate pair, which Python's json writes.
TEST_F(DocumentReaderTest, JsonLinesKeepBytesThatAreNoUtf8) {
  const auto text_of = [&](const std::string& written) {
    return read("c.jsonl", cat("{\"text\": \"", written, "\", \"other\": \"\xC3\"}\n")).at(0).text;
  };
  EXPECT_EQ(text_of("\xFF \xC3\xA9 \xED\xA0\x80 \xE2\x82"), "\xFF \xC3\xA9 \xED\xA0\x80 \xE2\x82");
  EXPECT_EQ(text_of("a\\ud800b\\uDFFF\\u00e9"),
            "a\xED\xA0\x80"
            "b\xED\xBF\xBF\xC3\xA9");
  EXPECT_EQ(text_of("\xFF\\ud83d\\ude00\\\\ud800\\n"), "\xFF\xF0\x9F\x98\x80\\ud800\n");
  // The code points that stand for such bytes while the line is parsed.
  EXPECT_EQ(text_of("\xFF\xF4\x8F\xAC\x81\\udbfe\\udf02"), "\xFF\xF4\x8F\xAC\x81\xF4\x8F\xAC\x82");
  EXPECT_EQ(text_of("\xF4\x8F\xAC\x81"), "\xF4\x8F\xAC\x81");
}

TEST_F(DocumentReaderTest, AnyBytesInJsonLinesComeBack) {
  uint64_t draw = 1;
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      draw = mix_bits(draw + 1);
      const char byte = static_cast<char>(draw % 4 == 0 ? 0x80 + draw / 8 % 0x80 : 0x20 + draw / 8 % 0x5F);
      bytes += byte == '"' || byte == '\\' ? 'x' : byte;
    }
    EXPECT_EQ(read("c.jsonl", cat("{\"text\": \"", bytes, "\"}")).at(0).text, bytes);
  }
}

TEST_F(DocumentReaderTest, APatternSeesLinesWithoutTheirCarriageReturn) {
  const auto documents = read("a.txt", "= A =\r\ntext\r\n= B =\r\nmore", {"text", "^= [A-Z] =$"});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "= A =\r\ntext\r\n");
  EXPECT_EQ(documents[1].text, "= B =\r\nmore");
}

TEST_F(DocumentReaderTest, APatternCutsTextIntoDocuments) {
  const std::string text = "before\n = One = \ntext\n = = Part = = \nmore\n = Two = \nend";
  const auto documents = read("w.txt", text, {"text", "^ = [^=]+ = $"});
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].name, "w.txt/0");
  EXPECT_EQ(documents[0].text, "before\n");
  EXPECT_EQ(documents[1].name, "w.txt/1");
  EXPECT_EQ(documents[1].text, " = One = \ntext\n = = Part = = \nmore\n");
  EXPECT_EQ(documents[2].text, " = Two = \nend");
  EXPECT_THROW(read("w.txt", text, {"text", "(["}), ConfigError);
}

TEST_F(DocumentReaderTest, DocumentsOfAPatternAreTheTextAgainWhateverItsLength) {
  const std::string text = long_text(4 * kPieceBytes);
  const auto documents = read("w.txt", text, {"text", "^[!-)].*A.*B.*C"});
  EXPECT_GT(documents.size(), 3u);
  std::string all;
  for (const auto& document : documents) all += document.text;
  EXPECT_EQ(all, text);
}

TEST(Utf8, CountsTheBytesThatAreNoPartOfACharacter) {
  EXPECT_EQ(invalid_utf8_bytes("plain text, longer than a word \xC3\xA9"), 0);
  EXPECT_EQ(invalid_utf8_bytes("\xFF\xFE"), 2);
  EXPECT_EQ(invalid_utf8_bytes("a\xC3"), 1);
  EXPECT_EQ(invalid_utf8_bytes("\xED\xA0\x80"), 3);  // a surrogate
  EXPECT_EQ(invalid_utf8_bytes("\xC0\xAF"), 2);      // not the shortest form
}

}  // namespace
}  // namespace fwl
