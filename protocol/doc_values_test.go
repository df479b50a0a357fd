package protocol

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentHasTheCodes(t *testing.T) {
	doc := map[Code]string{}
	for _, row := range table(t, "code", "number", "meaning") {
		n, err := strconv.ParseUint(row[1], 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		doc[Code(n)] = row[0]
	}
	if d := cmp.Diff(codeNames, doc); d != "" {
		t.Errorf("codes (-code +document):\n%s", d)
	}
}

func TestDocumentHasTheFlags(t *testing.T) {
	code := map[string]uint8{
		"WELCOME confined": uint8(WelcomeConfined), "WELCOME read_only": uint8(WelcomeReadOnly),
		"STAT follow": uint8(StatFollow), "STAT xattrs": uint8(StatXattrs),
		"LIST xattrs": uint8(StatXattrs), "LIST deep": uint8(ListDeep),
		"MEASURED read_only": uint8(SpaceReadOnly), "MEASURED no_suid": uint8(SpaceNoSuid),
		"OPEN read": uint8(OpenRead), "OPEN write": uint8(OpenWrite), "OPEN create": uint8(OpenCreate),
		"OPEN exclusive": uint8(OpenExclusive), "OPEN truncate": uint8(OpenTruncate), "OPEN append": uint8(OpenAppend),
		"READ zstd": uint8(ReadZstd), "READ holes": uint8(ReadHoles), "READ value": uint8(ReadValue),
		"DATA last": uint8(DataLast), "DATA value": uint8(DataValue), "DATA eof": uint8(DataEOF),
		"BEGIN resume": uint8(UploadResume), "BEGIN sparse": uint8(UploadSparse),
		"BEGIN in_place": uint8(UploadInPlace), "BEGIN no_replace": uint8(UploadNoReplace),
		"BEGUN unchanged": uint8(BegunUnchanged), "BEGUN journal": uint8(BegunJournal),
		"attr size": uint8(AttrSize), "attr perm": uint8(AttrPerm), "attr mtime": uint8(AttrMtime),
		"attr atime": uint8(AttrAtime), "attr owner": uint8(AttrOwner), "attr xattrs": uint8(AttrXattrs),
	}
	known := map[string]uint8{
		"WELCOME": uint8(welcomeKnown), "STAT": uint8(statKnown), "LIST": uint8(listKnown), "MEASURED": uint8(spaceKnown), "OPEN": uint8(openKnown),
		"READ": uint8(readKnown), "DATA": uint8(dataKnown), "BEGIN": uint8(uploadKnown), "BEGUN": uint8(begunKnown), "attr": uint8(attrKnown),
	}
	doc, sum := map[string]uint8{}, map[string]uint8{}
	for _, row := range table(t, "message", "flag", "value", "meaning") {
		n, err := strconv.ParseUint(row[2], 0, 8)
		if err != nil {
			t.Fatal(err)
		}
		doc[row[0]+" "+row[1]] = uint8(n)
		sum[row[0]] |= uint8(n)
	}
	if d := cmp.Diff(code, doc); d != "" {
		t.Errorf("flags (-code +document):\n%s", d)
	}
	if d := cmp.Diff(known, sum); d != "" {
		t.Errorf("all flags of a message (-decoded +document):\n%s", d)
	}
}

func TestDocumentHasTheLimits(t *testing.T) {
	code := map[string]int{
		"MaxData": MaxData, "MinData": MinData, "FrameSlack": FrameSlack, "MaxFrame": MaxFrame, "MaxHandshakeFrame": MaxHandshakeFrame,
		"MaxInline": MaxInline, "MinChunk": MinChunk, "MinWindow": MinWindow, "MinOperations": MinOperations, "MinHandles": MinHandles, "MaxChunk": MaxChunk, "MaxRead": MaxRead, "MaxPath": MaxPath, "MaxName": MaxName,
		"MaxMessage": MaxMessage, "MaxBlob": MaxBlob, "MaxXattr": MaxXattr, "MaxExtensions": MaxExtensions, "MaxAlgorithms": MaxAlgorithms,
		"MaxKeys": MaxKeys, "MaxEntries": MaxEntries, "MaxExtents": MaxExtents, "MaxValues": MaxValues, "MaxXattrs": MaxXattrs, "MaxChunks": MaxChunks,
		"PingAfter": PingAfter, "DeadAfter": DeadAfter, "StdioAfter": StdioAfter, "StdioNoise": StdioNoise, "JoinWindow": JoinWindow, "TCPPort": TCPPort,
	}
	doc := map[string]int{}
	for _, row := range table(t, "limit", "value", "of") {
		n, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		doc[row[0]] = n
	}
	if d := cmp.Diff(code, doc); d != "" {
		t.Errorf("limits (-code +document):\n%s", d)
	}
	elsewhere := []string{
		"Version", "Preface", "ALPN", "Subsystem", "LabelHost", "LabelUser", "LabelJoin", "ExporterSize", "NamespaceHost", "NamespaceUser",
	}
	want := slices.Sorted(maps.Keys(code))
	want = append(want, elsewhere...)
	slices.Sort(want)
	if d := cmp.Diff(want, constants(t, "limits.go", "")); d != "" {
		t.Errorf("constants of limits.go (-this test +file):\n%s", d)
	}
}

// TestConstantsAreInTheTables: a message or code that was declared and
// forgotten has no name.
func TestConstantsAreInTheTables(t *testing.T) {
	known := 0
	for i := range types {
		if Type(i).Known() {
			known++
		}
	}
	if got := len(constants(t, "type.go", "Type")); got != known {
		t.Errorf("%d messages are declared, %d are in the table", got, known)
	}
	if got := len(constants(t, "code.go", "Code")); got != len(codeNames) {
		t.Errorf("%d codes are declared, %d have names", got, len(codeNames))
	}
}

// constants returns the exported constants of a file whose names begin with
// prefix, sorted.
func constants(t testing.TB, file, prefix string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			return true
		}
		for _, spec := range d.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.IsExported() && strings.HasPrefix(name.Name, prefix) {
					names = append(names, name.Name)
				}
			}
		}
		return true
	})
	slices.Sort(names)
	return names
}
