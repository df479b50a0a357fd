package protocol

// Ping asks for a sign of life.
type Ping struct{ Nonce uint64 }

func (*Ping) kind() Type { return TypePing }

func (m *Ping) fields(c *codec) { c.u64("nonce", &m.Nonce) }

// Pong answers Ping, before anything that takes time.
type Pong struct{ Nonce uint64 }

func (*Pong) kind() Type { return TypePong }

func (m *Pong) fields(c *codec) { c.u64("nonce", &m.Nonce) }

// Goodbye is the last message of its sender on the stream.
type Goodbye struct {
	Code    Code
	Message string // for a person
}

func (*Goodbye) kind() Type { return TypeGoodbye }

func (m *Goodbye) fields(c *codec) { failure(c, &m.Code, &m.Message) }

// Fail ends the operation that its frame names.
type Fail struct {
	Code    Code
	Message string // for a person
}

func (*Fail) kind() Type { return TypeFail }

func (m *Fail) fields(c *codec) { failure(c, &m.Code, &m.Message) }

func failure(c *codec, code *Code, message *string) {
	v := uint16(*code)
	c.u16("code", &v)
	*code = Code(v)
	c.text("message", message, MaxMessage)
}

// OK ends an operation that has nothing to tell.
type OK struct{}

func (*OK) kind() Type { return TypeOK }

func (*OK) fields(*codec) {}

// Cancel asks to end the operation that its frame names. That one is answered,
// Cancel is not.
type Cancel struct{}

func (*Cancel) kind() Type { return TypeCancel }

func (*Cancel) fields(*codec) {}

// More lets a List send more frames.
type More struct{ Frames uint32 }

func (*More) kind() Type { return TypeMore }

func (m *More) fields(c *codec) { c.u32("frames", &m.Frames) }

// Extend is a request of an extension.
type Extend struct {
	Name string
	Body []byte
}

func (*Extend) kind() Type { return TypeExtend }

func (m *Extend) fields(c *codec) {
	c.text("name", &m.Name, MaxName)
	c.rest("body", &m.Body, MaxData)
}

// Extended answers Extend.
type Extended struct{ Body []byte }

func (*Extended) kind() Type { return TypeExtended }

func (m *Extended) fields(c *codec) { c.rest("body", &m.Body, MaxData) }
