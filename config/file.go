package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file; one with a thousand users has some
// 200 KiB.
const maxFile = 4 << 20

// A document is what a file says, its keys exactly as written.
type document struct {
	path  string
	raw   map[string]any
	lines map[string]int // of keys such as "users[1].root"; YAML and JSON only
}

// readDocument reads the file at path. "" is a document that says nothing.
func readDocument(path string) (document, *Fault) {
	if path == "" {
		return document{}, nil
	}
	data, err := readFile(path)
	if err != nil {
		return document{}, &Fault{File: path, Problem: err.Error(), cause: err}
	}
	return parseDocument(path, data)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is said already
		}
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %s; this is no configuration", FormatSize(maxFile))
	}
	return data, nil
}

// parseDocument parses data as the ending of path says, as YAML if it says
// nothing. It uses viper's decoders but not its reader, which lower-cases keys,
// splits them at dots and forgets the empty ones.
func parseDocument(path string, data []byte) (document, *Fault) {
	format := strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), ".")
	switch format {
	case "yaml", "yml", "toml", "json":
	default:
		format = "yaml"
	}
	doc := document{path: path, raw: map[string]any{}}
	if format != "toml" {
		// A JSON file need not be YAML as well (tabs); then there are no lines.
		var err error
		if doc.lines, err = yamlLines(data); err != nil && format != "json" {
			return document{}, &Fault{File: path, Problem: err.Error()}
		}
	}
	decoder, err := viper.NewCodecRegistry().Decoder(format)
	if err != nil {
		return document{}, &Fault{File: path, Problem: err.Error()}
	}
	if err := decoder.Decode(data, doc.raw); err != nil {
		return document{}, &Fault{File: path, Problem: syntaxProblem(format, err)}
	}
	return doc, nil
}

// syntaxProblem puts a parser's error on one line, with the next step.
func syntaxProblem(format string, err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return fmt.Sprintf("no valid %s: %s; mend that first, then the rest is checked", strings.ToUpper(format), text)
}

// yamlLines says in which line each key and each item of a list stands.
func yamlLines(data []byte) (map[string]int, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var top yaml.Node
	if err := decoder.Decode(&top); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, errors.New(syntaxProblem("yaml", err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New(`a second document after "---"; write everything into one`)
	}
	lines := map[string]int{}
	for _, n := range top.Content {
		if n.Kind == yaml.SequenceNode || n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			return nil, errors.New("keys with values are wanted, such as log: {level: info}")
		}
		addLines(lines, "", n)
	}
	return lines, nil
}

// addLines does not follow aliases, which might be many times as much as the
// file itself.
func addLines(lines map[string]int, path string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := join(path, n.Content[i].Value)
			lines[key] = n.Content[i].Line
			addLines(lines, key, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			key := fmt.Sprintf("%s[%d]", path, i)
			lines[key] = item.Line
			addLines(lines, key, item)
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
	}
}

// line is where key stands, or else the section that should have it; 0 if that
// is not known.
func (d document) line(key string) int {
	for key != "" {
		if n := d.lines[key]; n > 0 {
			return n
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}
