package transport

import (
	"context"
	"errors"
	"sync"
)

// errUnexpected says that a test did not foresee a question.
var errUnexpected = errors.New("the test has no answer")

// A prompter answers from its lists and remembers the questions.
type prompter struct {
	passphrases []string
	answers     []string
	words       []string

	mu    sync.Mutex
	asked []string
}

func (p *prompter) next(list *[]string, question string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, question)
	if len(*list) == 0 {
		return "", errUnexpected
	}
	answer := (*list)[0]
	*list = (*list)[1:]
	return answer, nil
}

func (p *prompter) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

func (p *prompter) Passphrase(_ context.Context, prompt string) ([]byte, error) {
	s, err := p.next(&p.passphrases, prompt)
	return []byte(s), err
}

func (p *prompter) Answer(_ context.Context, prompt string, _ bool) (string, error) {
	return p.next(&p.answers, prompt)
}

func (p *prompter) Confirm(_ context.Context, question string) (string, error) {
	return p.next(&p.words, question)
}
