package protocol

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const docPath = "../docs/protocol.md"

// A section is what stands in the document below a heading of level 4.
type section struct {
	typ    Type // 0 for fields that several messages share
	sender string
	fields []Field
	text   string
}

var heading = regexp.MustCompile(`^#### (\S+)(?: \(0x([0-9a-f]{2}), (\w+)\))?$`)

func readDoc(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sections returns the sections of the document by name.
func sections(t testing.TB) map[string]*section {
	t.Helper()
	all := map[string]*section{}
	var in *section
	ours := false // in the table of its fields
	for line := range strings.Lines(readDoc(t)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			in = nil
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			in = &section{sender: m[3]}
			if m[2] != "" {
				n, _ := strconv.ParseUint(m[2], 16, 8)
				in.typ = Type(n)
			}
			if all[m[1]] != nil {
				t.Errorf("%s has two sections", m[1])
			}
			all[m[1]] = in
		}
		if in == nil {
			continue
		}
		in.text += line + "\n"
		row := columns(line)
		switch {
		case slices.Equal(row, []string{"field", "type", "meaning"}):
			ours = true
		case row == nil && !strings.HasPrefix(line, "|-"):
			ours = false
		case ours && row != nil:
			in.fields = append(in.fields, Field{row[0], row[1]})
		}
	}
	return all
}

// columns returns the cells of a row of a table, nil for what is none or rules
// off the head.
func columns(line string) []string {
	if !strings.HasPrefix(line, "| ") || !strings.HasSuffix(line, "|") {
		return nil
	}
	row := strings.Split(strings.Trim(line, "|"), " | ")
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row
}

// table returns the rows of the only table with this head.
func table(t testing.TB, head ...string) [][]string {
	t.Helper()
	var rows [][]string
	in := false
	for line := range strings.Lines(readDoc(t)) {
		row := columns(strings.TrimSpace(line))
		switch {
		case slices.Equal(row, head):
			in = true
		case !in:
		case row != nil:
			rows = append(rows, row)
		case !strings.HasPrefix(line, "|-"):
			return rows
		}
	}
	t.Fatalf("no table with the columns %v", head)
	return nil
}

func TestDocumentHasTheMessages(t *testing.T) {
	all := sections(t)
	for i := range types {
		typ := Type(i)
		if !typ.Known() {
			continue
		}
		s := all[typ.String()]
		if s == nil {
			t.Errorf("%v has no section", typ)
			continue
		}
		if s.typ != typ || s.sender != typ.Sender().String() {
			t.Errorf("%v is 0x%02x from %s, want 0x%02x from %v", typ, uint8(s.typ), s.sender, uint8(typ), typ.Sender())
		}
		if d := cmp.Diff(typ.Fields(), s.fields); d != "" {
			t.Errorf("fields of %v (-code +document):\n%s", typ, d)
		}
		if (len(s.fields) == 0) != strings.Contains(s.text, "no fields.") {
			t.Errorf("%v has %d fields, and its section says otherwise", typ, len(s.fields))
		}
		if types[typ].make().kind() != typ {
			t.Errorf("the message of %v is a %v", typ, types[typ].make().kind())
		}
	}
	for name, s := range all {
		if s.typ != 0 && !s.typ.Known() {
			t.Errorf("%s is in the document alone", name)
		}
	}
}

func TestDocumentHasTheSharedFields(t *testing.T) {
	shared := map[string]func(*codec){
		"entry":     (&Entry{}).fields,
		"listing":   (&Listing{}).fields,
		"attr":      (&Attr{}).fields,
		"xattr":     (&Xattr{}).fields,
		"identity":  (&Identity{}).fields,
		"extent":    (&Extent{}).fields,
		"range":     (&Range{}).fields,
		"extension": (&Extension{}).fields,
	}
	for name, s := range sections(t) {
		if s.typ != 0 {
			continue
		}
		fields := shared[name]
		if fields == nil {
			t.Errorf("%s is in the document alone", name)
			continue
		}
		delete(shared, name)
		c := codec{mode: describing}
		fields(&c)
		if d := cmp.Diff(c.fields, s.fields); d != "" {
			t.Errorf("fields of %s (-code +document):\n%s", name, d)
		}
	}
	for name := range shared {
		t.Errorf("%s is not in the document", name)
	}
}

// TestDocumentKnowsItsFieldTypes makes sure that every type of a field is said
// to be something.
func TestDocumentKnowsItsFieldTypes(t *testing.T) {
	known := map[string]bool{}
	for _, row := range table(t, "type", "is") {
		for name := range strings.SplitSeq(row[0], ",") {
			known[strings.TrimSpace(name)] = true
		}
	}
	all := sections(t)
	for name, s := range all {
		for _, f := range s.fields {
			typ := strings.TrimPrefix(f.Type, "list of ")
			if other := all[typ]; !known[typ] && (other == nil || other.typ != 0) {
				t.Errorf("%s.%s has the unknown type %q", name, f.Name, f.Type)
			}
		}
	}
}

// TestDocumentSaysWhatRequestsGet: every request names answers that the server
// may send and errors that there are, and every error can be had.
func TestDocumentSaysWhatRequestsGet(t *testing.T) {
	number := map[string]Code{}
	for code, name := range codeNames {
		number[name] = code
	}
	answers := regexp.MustCompile(`(?m)Answers: ([^.]*)\.(?: Errors: ([^.]*)\.)?`)
	byName := map[string]Type{"none": 0}
	for i := range types {
		if types[i].name != "" {
			byName[types[i].name] = Type(i)
		}
	}
	had := map[string]bool{}
	all := sections(t)
	for name, s := range all {
		m := answers.FindStringSubmatch(s.text)
		if s.typ == 0 || s.typ.Sender() != FromClient {
			if m != nil {
				t.Errorf("%s is no request and has answers", name)
			}
			continue
		}
		if m == nil {
			t.Errorf("%s does not say its answers", name)
			continue
		}
		for answer := range strings.SplitSeq(m[1], ", ") {
			if typ, ok := byName[answer]; !ok || typ != 0 && typ.Sender()&FromServer == 0 {
				t.Errorf("%s is answered by %q, which the server cannot send", name, answer)
			}
		}
		for code := range strings.SplitSeq(m[2], ", ") {
			if _, ok := number[code]; !ok && code != "" && code != "as BEGIN" && code != "those of the extension" {
				t.Errorf("%s gets the unknown error %q", name, code)
			}
			had[code] = true
		}
	}
	text := readDoc(t)
	for name := range number {
		// What every request can get, and what GOODBYE says, stands in prose.
		prose := regexp.MustCompile(`\b`+name+`\b`).FindAllStringIndex(text, 2)
		if !had[name] && len(prose) < 2 && name != "IDLE" {
			t.Errorf("nobody gets %s", name)
		}
	}
}

func TestDocumentHasTheFixedTexts(t *testing.T) {
	doc := readDoc(t)
	if line := strings.SplitN(doc, "\n", 4)[2]; line != "Status: spoken by `transfer` and `transferd`." {
		t.Errorf("the document begins with %q", line)
	}
	words := strings.Join(strings.Fields(doc), " ")
	for _, text := range []string{
		fmt.Sprintf("% x", Preface), "the 13 bytes", ALPN, "subsystem `" + Subsystem + "`",
		LabelHost, LabelUser, LabelJoin, NamespaceHost, NamespaceUser,
		"`" + contextHost + "`", "`" + contextUser + "`", "`" + contextJoin + "`",
		fmt.Sprintf("up to %d bytes before the server's", StdioNoise),
		fmt.Sprintf("this document is %d", Version),
	} {
		if !strings.Contains(words, text) {
			t.Errorf("the document does not have %q", text)
		}
	}
	if len(Preface) != 13 {
		t.Errorf("the preface is %d bytes", len(Preface))
	}
}
