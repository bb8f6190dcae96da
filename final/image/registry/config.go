//go:build linux

package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
)

// hubKey is how config.json calls Docker Hub, since ever.
const hubKey = "https://index.docker.io/v1/"

// ConfigKey is what a registry is called in config.json: by its domain, but for Docker Hub.
func ConfigKey(domain string) string {
	if domain == "docker.io" || domain == "index.docker.io" || domain == hubHost {
		return hubKey
	}
	return domain
}

// DockerConfig reads credentials from config.json in a folder, or from the credential helper that
// it names. "" is $DOCKER_CONFIG, or ~/.docker.
func DockerConfig(dir string) func(domain string) (Credentials, error) {
	return func(domain string) (Credentials, error) {
		file, err := loadConfig(dir)
		if err != nil {
			return Credentials{}, err
		}
		auth, err := file.GetAuthConfig(ConfigKey(domain))
		if err != nil {
			return Credentials{}, err
		}
		return Credentials{
			Username: auth.Username, Password: auth.Password,
			IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}, nil
	}
}

func loadConfig(dir string) (*configfile.ConfigFile, error) {
	if dir == "" {
		dir = config.Dir()
	}
	return config.Load(dir)
}

// Login sees that a registry takes the credentials, and keeps them in config.json in a folder (""
// as above) or with the credential helper that it names. The domain "" is Docker Hub.
func (c *Client) Login(ctx context.Context, dir, domain string, auth Credentials) error {
	if domain == "" {
		domain = "docker.io"
	}
	if err := c.Check(ctx, domain, auth); err != nil {
		return err
	}
	file, err := loadConfig(dir)
	if err != nil {
		return err
	}
	key := ConfigKey(domain)
	err = file.GetCredentialsStore(key).Store(types.AuthConfig{
		Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken,
		RegistryToken: auth.RegistryToken, ServerAddress: key,
	})
	if err != nil {
		return fmt.Errorf("keep the credentials for %s: %w", domain, err)
	}
	return nil
}

// Check sees that a registry takes the credentials.
func (c *Client) Check(ctx context.Context, domain string, auth Credentials) error {
	t, base, err := c.loginAs(ctx, domain, auth, nil)
	if err == nil {
		r := &repository{client: c, base: base, http: &http.Client{Transport: t}}
		defer r.http.CloseIdleConnections()
		var request *http.Request
		if request, err = r.request(ctx, http.MethodGet, "", nil); err != nil {
			return err
		}
		var response *http.Response
		if response, err = r.do(request, http.StatusOK); err == nil {
			response.Body.Close()
			return nil
		}
	}
	if s := status(err); s == http.StatusUnauthorized || s == http.StatusForbidden {
		return fmt.Errorf("login to %s is %w: wrong username or password: %w", domain, ErrDenied, err)
	}
	return fmt.Errorf("login to %s: %w", domain, err)
}

// Logout forgets a registry's credentials. It is an error if there are none.
func Logout(dir, domain string) error {
	if domain == "" {
		domain = "docker.io"
	}
	file, err := loadConfig(dir)
	if err != nil {
		return err
	}
	key := ConfigKey(domain)
	auth, err := file.GetAuthConfig(key)
	if err != nil {
		return err
	}
	if auth.Username == "" && auth.Password == "" && auth.IdentityToken == "" {
		return fmt.Errorf("not logged in to %s: %w", domain, errNoCredentials)
	}
	return file.GetCredentialsStore(key).Erase(key)
}

var errNoCredentials = errors.New("there are no credentials")
