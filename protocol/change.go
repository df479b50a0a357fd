package protocol

// Mkdir makes a directory.
type Mkdir struct {
	Place
	Perm uint32
}

func (*Mkdir) kind() Type { return TypeMkdir }

func (m *Mkdir) fields(c *codec) {
	m.Place.fields(c)
	perm(c, &m.Perm)
}

// Symlink makes a symlink.
type Symlink struct {
	Place
	Target string
}

func (*Symlink) kind() Type { return TypeSymlink }

func (m *Symlink) fields(c *codec) {
	m.Place.fields(c)
	c.text("target", &m.Target, MaxPath)
}

// Link makes To a hard link to From.
type Link struct{ From, To Place }

func (*Link) kind() Type { return TypeLink }

func (m *Link) fields(c *codec) {
	m.From.named(c, "from_dir", "from_path")
	m.To.named(c, "to_dir", "to_path")
}

// RenameMode says what Rename does when the new name exists.
type RenameMode uint8

// The ways to rename.
const (
	RenameReplace   RenameMode = 0
	RenameNoReplace RenameMode = 1
)

// Rename gives From the name To.
type Rename struct {
	From, To Place
	Mode     RenameMode
}

func (*Rename) kind() Type { return TypeRename }

func (m *Rename) fields(c *codec) {
	m.From.named(c, "from_dir", "from_path")
	m.To.named(c, "to_dir", "to_path")
	octet(c, "mode", &m.Mode, RenameNoReplace)
}

// Remove removes a file, a symlink or an empty directory.
type Remove struct{ Place }

func (*Remove) kind() Type { return TypeRemove }

func (m *Remove) fields(c *codec) { m.Place.fields(c) }

// SetAttr changes attributes of a name.
type SetAttr struct {
	Place
	Attr Attr
}

func (*SetAttr) kind() Type { return TypeSetAttr }

func (m *SetAttr) fields(c *codec) {
	m.Place.fields(c)
	group(c, "attr", "attr", &m.Attr, (*Attr).fields)
}
