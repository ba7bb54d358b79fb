package cfg

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

func newCfgSchemaSetCommand() *cobra.Command {
	return schemaCommand(&cobra.Command{
		Use:   "set NAME FILE",
		Short: "Sets a JSON Schema that the documents of a bundle must obey",
		Long: `Sets the JSON Schema in FILE, or in standard input for -, for one document or for all that have none of their own. A schema that the
current version fails is refused.`,
	}, 2, "cfg schema set takes the name of a bundle and a file",
		func(r *cfgRun, document, author, reason string, args []string) error {
			schema, err := readFile(args[1], r.cmd.InOrStdin())
			if err != nil {
				return err
			}
			if len(schema) == 0 {
				return cli.BadArgs("%s is empty: cfg schema rm removes a schema", args[1])
			}
			return config.SetSchema(r.ctx, r.conn, args[0], document, schema, reason, config.Author(author))
		})
}

func newCfgSchemaRemoveCommand() *cobra.Command {
	cmd := schemaCommand(&cobra.Command{Use: "rm NAME", Short: "Removes a JSON Schema"}, 1,
		"cfg schema rm takes the name of a bundle",
		func(r *cfgRun, document, author, reason string, args []string) error {
			return config.SetSchema(r.ctx, r.conn, args[0], document, nil, reason, config.Author(author))
		})
	cli.AddYesFlag(cmd)
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		return cli.Confirm(cmd, "this removes a schema of "+cli.Plain(strings.Join(args, " ")))
	}
	return cmd
}

// schemaCommand adds the flags of the verbs that change a schema.
func schemaCommand(cmd *cobra.Command, n int, usage string,
	fn func(r *cfgRun, document, author, reason string, args []string) error) *cobra.Command {
	var document, author, reason string
	cmd.RunE = cfgVerb(n, n, usage,
		func(r *cfgRun, args []string) error { return fn(r, document, author, reason, args) })
	cmd.Flags().StringVar(&document, "document", "",
		"the document that the schema is for (default: all that have none of their own)")
	cmd.Flags().StringVar(&author, "author", config.Self(), "who changes it")
	cmd.Flags().StringVar(&reason, "reason", "", "why it changes")
	return cmd
}

func newCfgSchemaGetCommand() *cobra.Command {
	var document string
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Prints a JSON Schema; in the formats table, json and yaml all of a bundle",
		RunE: cfgVerb(1, 1, "cfg schema get takes the name of a bundle", func(r *cfgRun, args []string) error {
			schemas, err := config.Schemas(r.ctx, r.conn, args[0])
			if err != nil {
				return err
			}
			return r.printSchemas(args[0], document, schemas)
		}),
	}
	cmd.Flags().StringVar(&document, "document", "",
		"the document that the schema is for (default: all that have none of their own)")
	return cmd
}

// readDocuments reads what cfg put is given: FILE or DOCUMENT=FILE.
func readDocuments(args []string, stdin io.Reader) (config.Documents, error) {
	documents := config.Documents{}
	for _, arg := range args {
		name, file, named := strings.Cut(arg, "=")
		if !named {
			name, file = filepath.Base(arg), arg
		}
		if name == "" || name == "-" {
			return nil, cli.BadArgs("a document needs a name: give it as DOCUMENT=%s", file)
		}
		if _, twice := documents[name]; twice {
			return nil, cli.BadArgs("document %s is there twice", name)
		}
		content, err := readFile(file, stdin)
		if err != nil {
			return nil, err
		}
		documents[name] = content
	}
	return documents, nil
}

// maxDocumentFile keeps a file that is no configuration out of memory; the server's limit is smaller.
const maxDocumentFile = 16 << 20

func readFile(path string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxDocumentFile+1))
	if err == nil && len(content) > maxDocumentFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxDocumentFile)
	}
	return content, err
}
